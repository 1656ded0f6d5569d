public import Hub
package import Tensors

/// One framework's way to name, glue and configure one family of models: a file of `formats/`.
///
/// The same text serves both directions: reading binds a checkpoint's names and config to the hub's
/// pieces and attributes, writing asks which names and which config express a given model, and then
/// reads that config back to prove it.
public struct Layout: Sendable {
  /// The file's own name: `samba-fla`.
  public var name: String
  /// The framework, as `--to` has it: `fla`.
  public var framework: String
  /// The family, as an expression over the config.
  public var family: Expression
  /// One line: the framework's class.
  public var title: String
  /// Where the facts come from.
  public var source: String
  /// The files that the framework expects.
  package var files: Files
  /// How to tell this layout from others.
  package var detect: Detect
  /// The config's keys.
  public var config: Config
  /// Names for the expressions below, in order.
  package var lets: [Binding]
  /// The model as a whole.
  public var model: Model
  /// The layers.
  package var layers: Layers
  /// How each mixer is spelled, by the layout's own name for it.
  package var mixers: [String: Mixer]
  /// Tensors that carry no weight; absent ones are no problem.
  package var ignore: [Ignored]
  /// How a model is expressed in this layout; `nil` when it can only be read.
  package var write: Write?

  /// A name and what it stands for.
  package struct Binding: Sendable {
    /// The name.
    package var name: String
    /// Its value.
    package var value: Expression
  }

  /// The files that the framework expects.
  package struct Files: Sendable {
    /// The container written by default, by `Container`'s names.
    package var container: String
    /// The weight file's name in each container, by the container's name.
    package var weights: [String: String]
    /// The config's file name.
    package var config: String
    /// For PyTorch: the key of the pickled dict under which the framework looks for the state dict;
    /// `nil` for a bare state dict.
    package var nesting: String?
  }

  /// How to tell this layout from others.
  package struct Detect: Sendable {
    /// Globs of which each must match a tensor.
    package var tensors: [String]
    /// Globs of which none may match a tensor.
    package var absent: [String]
    /// Prefixes taken off the front of names.
    package var strip: [String]
    /// What must hold of the raw config, when there is one.
    package var config: Expression?
    /// What safetensors' metadata calls the format, in what is read and in what is written; `nil` for
    /// PyTorch's, of which nothing is asked.
    package var format: String?
    /// The `model_type`s that this layout reads; `nil` when its configs need not have one.
    package var modelTypes: [String]?
    /// What the names of the head class begin with and those of its base model lack.
    package var base: String?
    /// The head's name and the embedding's: a file of a tied model may hold either alone.
    package var tied: TiedNames?

    /// The two names of a tied tensor.
    package struct TiedNames: Sendable, Hashable {
      /// The head's.
      package var head: String
      /// The embedding's.
      package var embedding: String

      /// Two names.
      package init(head: String, embedding: String) {
        self.head = head
        self.embedding = embedding
      }
    }
  }

  /// The config's keys.
  public struct Config: Sendable {
    /// A key that the mathematics depends on.
    package struct Key: Sendable {
      /// The key.
      package var name: String
      /// The framework's default; `nil` when the key is required.
      package var initial: JSONValue?
      /// Older names of the same key.
      package var aliases: [String]
      /// What its value may hold, where that is a mapping or a list of mappings; `nil` when the
      /// layout's expressions see to it.
      package var members: Members?
    }
    /// What a mapping of the config may hold.
    package struct Members: Sendable {
      /// A key of which only some values are supported.
      package struct Only: Sendable {
        /// The key.
        package var name: String
        /// The values: the framework's default, and those that mean the same.
        package var values: [JSONValue]
      }
      /// Keys that the expressions speak of.
      package var known: [String]
      /// Globs of keys that change nothing in the forward pass.
      package var inert: [String]
      /// Keys that must have their default.
      package var only: [Only]
    }
    /// A fact that must hold for the engine and the transforms to be right.
    package struct Requirement: Sendable {
      /// The fact.
      package var that: Expression
      /// The key that is to blame otherwise.
      package var key: String
      /// Why.
      package var why: String
    }
    /// Keys that the mathematics depends on.
    package var keys: [Key]
    /// Globs of keys that change nothing in the forward pass.
    public var inert: [String]
    /// Facts that must hold.
    package var requirements: [Requirement]
  }

  /// A tensor of the layout and the pieces that it is glued from.
  public struct Tensor: Sendable {
    /// The name, behind the mixer's prefix.
    public var name: NameTemplate
    /// The pieces.
    public var glue: Glue
    /// The shape, where it is not simply the pieces' own.
    public var shape: [Expression]?
    /// Other extents of the same elements in the same order, which some tools write.
    public var alternative: [Expression]?
    /// When it is there; `nil` for always.
    public var when: Expression?
    /// For the head: what becomes of it when it is the embedding.
    package var tied: Tied?
  }

  /// How the head's tensor is stored when the head is the embedding.
  package enum Tied: String, Sendable {
    /// The file has no such tensor.
    case absent
    /// The file has both, sharing storage where the container can.
    case both
  }

  /// The model as a whole.
  public struct Model: Sendable {
    /// The number of layers.
    public var layerCount: Expression
    /// Whether the framework itself ties the head to the embedding under this config.
    public var tied: Expression
    /// The model's attributes.
    package var attributes: [Binding]
    /// The model's tensors.
    public var tensors: [Tensor]
  }

  /// The layers.
  package struct Layers: Sendable {
    /// The prefix of every tensor of a layer.
    package var prefix: NameTemplate
    /// Names for the expressions below; `i` is the layer's index.
    package var lets: [Binding]
    /// Attributes of every sub-layer.
    package var attributes: [Binding]
    /// The sub-layers of a layer, in the order of computation.
    package var slots: [Slot]
  }

  /// A place for one sub-layer in a layer.
  package struct Slot: Sendable {
    /// When the place is there.
    package var when: Expression?
    /// What may stand in it: the first whose `when` holds.
    package var options: [Option]
  }

  /// A sub-layer that may stand in a slot.
  package struct Option: Sendable {
    /// When it does.
    package var when: Expression?
    /// The layout's mixer.
    package var mixer: String
    /// The name of the norm's module, behind the layer's prefix; `nil` when it has none of its own.
    package var norm: NameTemplate?
    /// The prefix of the mixer's tensors, after the layer's prefix.
    package var prefix: NameTemplate
    /// Attributes of the sub-layer besides the mixer's.
    package var attributes: [Binding]
  }

  /// How a mixer is spelled.
  package struct Mixer: Sendable {
    /// The vocabulary's kind.
    package var kind: String
    /// The kind's attributes.
    package var attributes: [Binding]
    /// The mixer's tensors.
    package var tensors: [Tensor]
  }

  /// A tensor that carries no weight.
  package struct Ignored: Sendable {
    /// A glob of names.
    package var glob: String
    /// Why it carries none.
    package var why: String
    /// Whether the framework misses it when it is absent: then it is written, once for each layer if
    /// the name holds `{i}`.
    package var write: Written?

    /// A buffer that the framework wants in the file.
    package struct Written: Sendable {
      /// The name.
      package var name: NameTemplate
      /// The shape of zeros; empty where there are values.
      package var shape: [Int]
      /// The values of a vector, if they are not zeros.
      package var values: Expression?
      /// When it is there.
      package var when: Expression?
    }
  }

  /// How a model is expressed in this layout.
  package struct Write: Sendable {
    /// A way in which sub-layers fall into layers.
    package struct Pattern: Sendable {
      /// Its name, for the config's expressions (`pattern`).
      package var name: String
      /// The slots of one layer.
      package var slots: [PatternSlot]
    }

    /// A slot of a pattern.
    package struct PatternSlot: Sendable {
      /// The kinds that may stand in it.
      package var kinds: [String]
      /// Whether zeros may stand in it when the model has nothing there.
      package var fill: Bool
    }

    /// An attribute in which the target may differ from the source, at a stated price.
    package struct Acceptance: Sendable {
      /// The kind, or `model`.
      package var kind: String
      /// The attribute.
      package var attribute: String
      /// The price, for the user.
      package var reason: String
    }

    /// A width that the target allows only in multiples.
    package struct Padding: Sendable {
      /// The kind.
      package var kind: String
      /// The attribute that is the width.
      package var attribute: String
      /// The multiple.
      package var multiple: Int
    }

    /// A config value with expressions at its leaves.
    package indirect enum Template: Sendable {
      /// A constant.
      case constant(JSONValue)
      /// An expression.
      case expression(Expression)
      /// A list.
      case list([Template])
      /// An object.
      case object([Entry])
    }

    /// A key of a config template.
    package struct Entry: Sendable {
      /// The key.
      package var key: String
      /// Its value.
      package var value: Template
      /// Whether the key is left out when the value is null (written `key?:`).
      package var omitsNull: Bool
    }

    /// When a checkpoint of this layout is of an older form that the framework's present version does
    /// not load, so that it is written anew.
    package var dated: Expression?
    /// What must hold of a model for this layout to be thought of; `nil` for nothing.
    package var when: Expression?
    /// The ways in which sub-layers fall into layers, in the order in which they are tried.
    package var patterns: [Pattern]
    /// Names for the config's expressions, in order.
    package var lets: [Binding]
    /// The config.
    package var config: [Entry]
    /// The number that stands for infinity in the config of a framework that reads plain JSON; `nil`
    /// for frameworks of transformers, which has a form of its own.
    package var infinity: Double?
    /// Keys of the source's config that are copied when it has them.
    package var carry: [String]
    /// Exact rewrites of the model that the target needs, by name.
    package var rewrites: [String]
    /// Widths that must be padded.
    package var paddings: [Padding]
    /// Differences that are no refusal.
    package var accepts: [Acceptance]
  }
}
