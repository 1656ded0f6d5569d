public import Hub
public import Tensors

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
  /// Other names of this layout, for where its own is also its framework's.
  public var also: [String]
  /// The family, as an expression over the config.
  public var family: Expression
  /// One line: the framework's class.
  public var title: String
  /// Where the facts come from.
  public var source: String
  /// The files that the framework expects.
  public var files: Files
  /// How to tell this layout from others.
  public var detect: Detect
  /// The config's keys.
  public var config: Config
  /// Names for the expressions below, in order.
  public var lets: [Binding]
  /// The model as a whole.
  public var model: Model
  /// The layers.
  public var layers: Layers
  /// How each mixer is spelled, by the layout's own name for it.
  public var mixers: [String: Mixer]
  /// Tensors that carry no weight; absent ones are no problem.
  public var ignore: [Ignored]
  /// How a model is expressed in this layout; `nil` when it can only be read.
  public var write: Write?

  /// A name and what it stands for.
  public struct Binding: Sendable {
    /// The name.
    public var name: String
    /// Its value.
    public var value: Expression
  }

  /// The files that the framework expects.
  public struct Files: Sendable {
    /// The container written by default, by `Container`'s names.
    public var container: String
    /// The weight file's name in each container, by the container's name.
    public var weights: [String: String]
    /// The config's file name.
    public var config: String
    /// For PyTorch: the key of the pickled dict under which the framework looks for the state dict;
    /// `nil` for a bare state dict.
    public var nesting: String?
  }

  /// How to tell this layout from others.
  public struct Detect: Sendable {
    /// Globs of which each must match a tensor.
    public var tensors: [String]
    /// Globs of which none may match a tensor.
    public var absent: [String]
    /// Prefixes taken off the front of names.
    public var strip: [String]
    /// What must hold of the raw config, when there is one.
    public var config: Expression?
    /// What safetensors' metadata calls the format, in what is read and in what is written; `nil` for
    /// PyTorch's, of which nothing is asked.
    public var format: String?
    /// The `model_type`s that this layout reads; `nil` when its configs need not have one.
    public var modelTypes: [String]?
    /// What the names of the head class begin with and those of its base model lack.
    public var base: String?
    /// The head's name and the embedding's: a file of a tied model may hold either alone.
    public var tied: TiedNames?

    /// The two names of a tied tensor.
    public struct TiedNames: Sendable, Hashable {
      /// The head's.
      public var head: String
      /// The embedding's.
      public var embedding: String

      /// Two names.
      public init(head: String, embedding: String) {
        self.head = head
        self.embedding = embedding
      }
    }
  }

  /// The config's keys.
  public struct Config: Sendable {
    /// A key that the mathematics depends on.
    public struct Key: Sendable {
      /// The key.
      public var name: String
      /// The framework's default; `nil` when the key is required.
      public var initial: JSONValue?
      /// Older names of the same key.
      public var aliases: [String]
      /// What its value may hold, where that is a mapping or a list of mappings; `nil` when the
      /// layout's expressions see to it.
      public var members: Members?
    }
    /// What a mapping of the config may hold.
    public struct Members: Sendable {
      /// A key of which only some values are supported.
      public struct Only: Sendable {
        /// The key.
        public var name: String
        /// The values: the framework's default, and those that mean the same.
        public var values: [JSONValue]
      }
      /// Keys that the expressions speak of.
      public var known: [String]
      /// Globs of keys that change nothing in the forward pass.
      public var inert: [String]
      /// Keys that must have their default.
      public var only: [Only]
    }
    /// A fact that must hold for the engine and the transforms to be right.
    public struct Requirement: Sendable {
      /// The fact.
      public var that: Expression
      /// The key that is to blame otherwise.
      public var key: String
      /// Why.
      public var why: String
    }
    /// Keys that the mathematics depends on.
    public var keys: [Key]
    /// Globs of keys that change nothing in the forward pass.
    public var inert: [String]
    /// Factors that other architectures have, by a glob of their names, with the value under which
    /// each changes nothing.
    public var neutral: [(glob: String, value: JSONValue)]
    /// Facts that must hold.
    public var requirements: [Requirement]
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
    public var tied: Tied?
    /// How many such tensors there are, numbered by `{e}` in the name and in the pieces' roles; `nil`
    /// for one.
    public var each: Expression?

    /// The tensor of this number.
    func numbered(_ number: Int) -> Tensor {
      var tensor = self
      tensor.name = name.numbered(number)
      tensor.glue = glue.numbered(number)
      tensor.each = nil
      return tensor
    }
  }

  /// How the head's tensor is stored when the head is the embedding.
  public enum Tied: String, Sendable {
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
    public var attributes: [Binding]
    /// The model's tensors.
    public var tensors: [Tensor]
  }

  /// The layers.
  public struct Layers: Sendable {
    /// The prefix of every tensor of a layer.
    public var prefix: NameTemplate
    /// Names for the expressions below; `i` is the layer's index.
    public var lets: [Binding]
    /// Attributes of every sub-layer.
    public var attributes: [Binding]
    /// The sub-layers of a layer, in the order of computation.
    public var slots: [Slot]
  }

  /// A place for one sub-layer in a layer.
  public struct Slot: Sendable {
    /// When the place is there.
    public var when: Expression?
    /// What may stand in it: the first whose `when` holds.
    public var options: [Option]
  }

  /// A sub-layer that may stand in a slot.
  public struct Option: Sendable {
    /// When it does.
    public var when: Expression?
    /// The layout's mixer.
    public var mixer: String
    /// The name of the norm's module, behind the layer's prefix; `nil` when it has none of its own.
    public var norm: NameTemplate?
    /// The prefix of the mixer's tensors, after the layer's prefix.
    public var prefix: NameTemplate
    /// Attributes of the sub-layer besides the mixer's.
    public var attributes: [Binding]
  }

  /// How a mixer is spelled.
  public struct Mixer: Sendable {
    /// The vocabulary's kind.
    public var kind: String
    /// The kind's attributes.
    public var attributes: [Binding]
    /// The mixer's tensors.
    public var tensors: [Tensor]
  }

  /// A tensor that carries no weight.
  public struct Ignored: Sendable {
    /// A glob of names.
    public var glob: String
    /// Why it carries none.
    public var why: String
    /// Whether it is a parameter all the same, which a conversion to another layout says it leaves out.
    public var isParameter = false
    /// Whether only those of the names are meant that no sub-layer holds.
    public var isRest = false
    /// Whether the framework misses it when it is absent: then it is written, once for each layer if
    /// the name holds `{i}`.
    public var write: Written?

    /// A buffer that the framework wants in the file.
    public struct Written: Sendable {
      /// The name.
      public var name: NameTemplate
      /// The shape of zeros; empty where there are values.
      public var shape: [Int]
      /// The values of a vector, if they are not zeros.
      public var values: Expression?
      /// When it is there.
      public var when: Expression?
    }
  }

  /// How a model is expressed in this layout.
  public struct Write: Sendable {
    /// A way in which sub-layers fall into layers.
    public struct Pattern: Sendable {
      /// Its name, for the config's expressions (`pattern`).
      public var name: String
      /// The slots of one layer.
      public var slots: [PatternSlot]
    }

    /// A slot of a pattern.
    public struct PatternSlot: Sendable {
      /// The kinds that may stand in it.
      public var kinds: [String]
      /// Whether zeros may stand in it when the model has nothing there.
      public var fill: Bool
      /// Whether a layer may do without it.
      public var isOptional = false
    }

    /// An attribute in which the target may differ from the source, at a stated price.
    public struct Acceptance: Sendable {
      /// The kind, or `model`.
      public var kind: String
      /// The attribute.
      public var attribute: String
      /// The price, for the user.
      public var reason: String
    }

    /// A width that the target allows only in multiples.
    public struct Padding: Sendable {
      /// The kind.
      public var kind: String
      /// The attribute that is the width.
      public var attribute: String
      /// The multiple.
      public var multiple: Int
    }

    /// A config value with expressions at its leaves.
    public indirect enum Template: Sendable {
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
    public struct Entry: Sendable {
      /// The key.
      public var key: String
      /// Its value.
      public var value: Template
      /// Whether the key is left out when the value is null (written `key?:`).
      public var omitsNull: Bool
    }

    /// When a checkpoint of this layout is of an older form that the framework's present version does
    /// not load, so that it is written anew.
    public var dated: Expression?
    /// What must hold of a model for this layout to be thought of; `nil` for nothing.
    public var when: Expression?
    /// The ways in which sub-layers fall into layers, in the order in which they are tried.
    public var patterns: [Pattern]
    /// Names for the config's expressions, in order.
    public var lets: [Binding]
    /// The config.
    public var config: [Entry]
    /// The number that stands for infinity in the config of a framework that reads plain JSON; `nil`
    /// for frameworks of transformers, which has a form of its own.
    public var infinity: Double?
    /// Keys of the source's config that are copied when it has them.
    public var carry: [String]
    /// Exact rewrites of the model that the target needs, by name.
    public var rewrites: [String]
    /// Widths that must be padded.
    public var paddings: [Padding]
    /// Differences that are no refusal.
    public var accepts: [Acceptance]
  }
}
