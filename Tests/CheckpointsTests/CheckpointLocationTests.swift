import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Finding a checkpoint")
struct CheckpointLocationTests {
  let directory = TemporaryDirectory()

  func find(_ names: [String]) throws -> CheckpointLocation {
    for name in names { Files.write("", to: directory.file(name)) }
    return try CheckpointLocation(finding: directory.path)
  }

  func failure(_ names: [String]) -> Diagnostic? {
    for name in names { Files.write("", to: directory.file(name)) }
    return problem { () throws(Diagnostic) in
      _ = try CheckpointLocation(finding: directory.path)
    }
  }

  @Test("weights, config and companions are found by themselves")
  func parts() throws {
    let location = try find([
      "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md",
      "generation_config.json", "vocab.json", "merges.txt", "spiece.model", "training_args.bin",
      "optimizer.pt", "chat_template.jinja", "params.json",
    ])
    #expect(location.weights == .file(directory.file("model.safetensors")))
    #expect(location.configs == [directory.file("config.json"), directory.file("params.json")])
    #expect(location.config == directory.file("config.json"))
    #expect(
      location.companions
        == [
          "chat_template.jinja", "generation_config.json", "merges.txt", "spiece.model",
          "tokenizer.json", "tokenizer_config.json", "vocab.json",
        ].map(directory.file))
    #expect(location.notes.isEmpty)
  }

  @Test("safetensors goes before pytorch_model.bin, with a note")
  func priority() throws {
    let location = try find(["pytorch_model.bin", "model.safetensors.index.json", "other.pth"])
    #expect(location.weights == .index(directory.file("model.safetensors.index.json")))
    #expect(location.notes.map(\.code) == ["checkpoint.chosen"])
  }

  @Test("a single other weights file is taken, lit_gpt's config first beside it")
  func other() throws {
    let location = try find(["lit_model.pth", "config.json", "lit_config.json", "optimizer.bin"])
    #expect(location.weights == .file(directory.file("lit_model.pth")))
    #expect(location.config == directory.file("lit_config.json"))
  }

  @Test("a trace beside the weights is no candidate")
  func trace() throws {
    var builder = SafetensorsBuilder()
    builder.add("input_ids", .i64, [0], [])
    builder.add("logits", [1], [0])
    Files.write(builder.bytes, to: directory.file("trace.safetensors"))
    #expect(failure([])?.code == "checkpoint.none")
    #expect(try find(["w.pth"]).weights == .file(directory.file("w.pth")))
  }

  @Test("shards of an index are no candidates of their own")
  func shards() throws {
    let location = try find([
      "m-00001-of-00002.bin", "m-00002-of-00002.bin", "m.bin.index.json",
    ])
    #expect(location.weights == .index(directory.file("m.bin.index.json")))
    let one = try CheckpointLocation(finding: directory.file("m-00001-of-00002.bin"))
    #expect(one.weights == .file(directory.file("m-00001-of-00002.bin")))
    #expect(one.notes.map(\.code) == ["checkpoint.one-shard"])
  }

  @Test("several candidates are an error that lists them")
  func ambiguous() {
    let error = failure(["a.pth", "b.h5"])
    #expect(error?.code == "checkpoint.ambiguous")
    #expect(error?.message == "holds several weights: \"a.pth\", \"b.h5\"")
  }

  @Test("no weights, and nothing at all, are told apart")
  func none() {
    #expect(failure([])?.notes == ["the directory is empty"])
    let error = failure(["notes.txt"])
    #expect(error?.code == "checkpoint.none")
    #expect(error?.notes == ["it holds \"notes.txt\""])
    let missing = problem { () throws(Diagnostic) in
      _ = try CheckpointLocation(finding: directory.file("nowhere"))
    }
    #expect(missing?.code == "checkpoint.not-found")
  }

  func make(_ paths: [String]) {
    for path in paths {
      var place = directory.path
      let parts = path.split(separator: "/")
      for part in parts.dropLast() {
        place += "/" + part
        if !Files.exists(place) { Files.makeDirectory(place) }
      }
      Files.write("", to: directory.file(path))
    }
  }

  @Test(
    "endings that trainers use are weights",
    arguments: ["last.ckpt", "model_best.pth.tar", "w.pt", "iter-5-ckpt.pth"])
  func endings(name: String) throws {
    #expect(try find([name, "config.json"]).weights == .file(directory.file(name)))
  }

  @Test("several .ckpt are an error that lists them and says how to name one")
  func severalLightning() {
    let error = failure(["last.ckpt", "epoch=3-step=400.ckpt"])
    #expect(error?.code == "checkpoint.ambiguous")
    #expect(error?.message == "holds several weights: \"epoch=3-step=400.ckpt\", \"last.ckpt\"")
    #expect(error?.help?.contains(directory.file("epoch=3-step=400.ckpt")) == true)
  }

  @Test(
    "shards that lost their index are read when their names say that all are there",
    arguments: [("model", ".safetensors"), ("pytorch_model", ".bin"), ("w.fp16", ".safetensors")])
  func looseShards(stem: String, ending: String) throws {
    let names = (1...3).map { "\(stem)-0000\($0)-of-00003\(ending)" }
    let location = try find(names)
    #expect(location.weights == .shards(names.map(directory.file)))
    #expect(location.notes.map(\.code) == ["shards.no-index"])
    let one = try CheckpointLocation(finding: directory.file(names[1]))
    #expect(one.weights == .file(directory.file(names[1])))
    #expect(one.notes.map(\.code) == ["checkpoint.one-shard"])
    #expect(one.notes.first?.help == "give the directory \(directory.path) to read all")
    Files.remove(directory.file(names[1]))
    let error = failure([])
    #expect(error?.code == "shards.missing-file")
    #expect(error?.message == "holds 2 of 3 shards; not there: \"\(names[1])\"")
    let left = try CheckpointLocation(finding: directory.file(names[0]))
    #expect(left.notes.first?.notes.first?.contains(names[1]) == true)
  }

  @Test("shards that count from 0, and a single one of one")
  func oddShards() throws {
    let names = ["m-00000-of-00002.pt", "m-00001-of-00002.pt"]
    #expect(try find(names).weights == .shards(names.map(directory.file)))
    for name in names { Files.remove(directory.file(name)) }
    let one = try find(["model-00001-of-00001.safetensors"])
    #expect(one.weights == .file(directory.file("model-00001-of-00001.safetensors")))
    #expect(one.notes.isEmpty)
  }

  @Test("two sets of shards are an error that names both")
  func twoSets() {
    let error = failure(
      (1...2).map { "model-0000\($0)-of-00002.safetensors" }
        + (1...3).map { "model-0000\($0)-of-00003.safetensors" })
    #expect(error?.code == "checkpoint.ambiguous")
    #expect(error?.message.contains("2 shards of model.safetensors") == true)
    #expect(error?.message.contains("3 shards of model.safetensors") == true)
  }

  @Test("a run with one checkpoint means that checkpoint; the run's config serves it")
  func run() throws {
    make(["run/checkpoint-500/model.safetensors", "run/config.json", "run/trainer_state.json"])
    let location = try CheckpointLocation(finding: directory.file("run/"))
    #expect(location.weights.path == directory.file("run/checkpoint-500/model.safetensors"))
    #expect(location.directory == directory.file("run/checkpoint-500"))
    #expect(location.notes.map(\.code) == ["checkpoint.inside"])
    #expect(location.config == directory.file("run/config.json"))
    make(["run/checkpoint-1000/model.safetensors", "run/checkpoint-90/model.safetensors"])
    let error = problem { () throws(Diagnostic) in
      _ = try CheckpointLocation(finding: directory.file("run"))
    }
    #expect(error?.code == "checkpoint.ambiguous")
    for step in [500, 1000, 90] {
      #expect(error?.message.contains(directory.file("run/checkpoint-\(step)")) == true)
    }
    #expect(
      error?.help
        == "name the one that you mean; the last is \(directory.file("run/checkpoint-1000"))")
  }

  @Test("checkpoints up to three directories down are found; links that lead out are not followed")
  func deep() throws {
    make(["elsewhere/model.safetensors", "run/version_0/checkpoints/last.ckpt"])
    Files.link(directory.file("run/linked"), to: "../elsewhere")
    let location = try CheckpointLocation(finding: directory.file("run"))
    #expect(location.weights == .file(directory.file("run/version_0/checkpoints/last.ckpt")))
    let error = problem { () throws(Diagnostic) in
      _ = try CheckpointLocation(finding: directory.path)
    }
    #expect(error?.code == "checkpoint.ambiguous")
    #expect(error?.message.contains(directory.file("elsewhere")) == true)
    #expect(error?.message.contains(directory.file("run/version_0/checkpoints")) == true)
  }

  @Test("an entry of the Hugging Face cache means the revision of its refs/main")
  func cache() throws {
    let entry = "models--o--n"
    make(
      ["\(entry)/blobs/x", "\(entry)/refs/main"]
        + ["aa11", "bb22"].map { "\(entry)/snapshots/\($0)/model.safetensors" })
    Files.write("bb22\n", to: directory.file("\(entry)/refs/main"))
    for given in [entry, entry + "/snapshots", "."] {
      let location = try CheckpointLocation(finding: directory.file(given))
      #expect(
        location.weights.path.hasSuffix("\(entry)/snapshots/bb22/model.safetensors"), "\(given)")
      #expect(location.notes.first?.code == "checkpoint.inside")
    }
    for odd in ["../../..", "", "cc33"] {
      Files.write(odd, to: directory.file("\(entry)/refs/main"))
      let error = problem { () throws(Diagnostic) in
        _ = try CheckpointLocation(finding: directory.file(entry))
      }
      #expect(error?.code == "checkpoint.ambiguous", "\(odd)")
    }
  }

  @Test(
    "what trainers and other frameworks leave is named with the way out",
    arguments: [
      (
        ["zero_to_fp32.py", "latest", "global_step5/a_model_states.pt"], "checkpoint.deepspeed",
        "zero_to_fp32.py"
      ),
      (
        ["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"],
        "checkpoint.deepspeed", "zero_to_fp32.py"
      ),
      (
        ["adapter_config.json", "adapter_model.safetensors"], "checkpoint.adapter",
        "merge_and_unload"
      ),
      (["adapter_model.bin"], "checkpoint.adapter", "merge_and_unload"),
      (
        ["consolidated.00.pth", "consolidated.01.pth", "params.json"], "checkpoint.model-parallel",
        "join"
      ),
      (["latest_checkpointed_iteration.txt"], "checkpoint.megatron", "convert.py"),
      (["model.onnx"], "checkpoint.none", "from which it was made"),
      (["flax_model.msgpack", "config.json"], "checkpoint.none", "from which it was made"),
      (["model.nemo"], "checkpoint.none", "from which it was made"),
    ])
  func foreign(names: [String], code: String, help: String) {
    make(names)
    let error = failure([])
    #expect(error?.code == code)
    #expect(error?.help?.contains(help) == true, "\(error?.help ?? "")")
  }

  @Test("a run's only sharded checkpoint is what the run means, with the run's config")
  func innerSharded() throws {
    make([
      "run/checkpoint/step-8/.metadata", "run/checkpoint/step-8/__0_0.distcp", "run/config.json",
      "run/train.log",
    ])
    let location = try CheckpointLocation(finding: directory.file("run"))
    #expect(location.weights == .sharded(directory.file("run/checkpoint/step-8")))
    #expect(location.directory == directory.file("run/checkpoint/step-8"))
    #expect(location.config == directory.file("run/config.json"))
    #expect(
      location.notes.map(\.code) == ["checkpoint.inside", "checkpoint.config-elsewhere"])
    make(["run/checkpoint/step-16/.metadata", "run/checkpoint/step-16/__0_0.distcp"])
    let error = problem { () throws(Diagnostic) in
      _ = try CheckpointLocation(finding: directory.file("run"))
    }
    #expect(error?.code == "checkpoint.ambiguous")
    #expect(error?.help?.contains("the last is") == true)
    #expect(error?.help?.hasSuffix("run/checkpoint/step-16") == true, "\(error?.help ?? "")")
  }

  @Test("a sharded checkpoint comes behind the usual names and before others, and that is told")
  func shardedBesideOthers() throws {
    make(["a/.metadata", "a/__0_0.distcp", "a/model.safetensors"])
    var location = try CheckpointLocation(finding: directory.file("a"))
    #expect(location.weights == .file(directory.file("a/model.safetensors")))
    #expect(location.notes.map(\.code) == ["checkpoint.chosen"])
    #expect(location.notes.first?.help?.contains("a/.metadata") == true)
    make(["b/.metadata", "b/__0_0.distcp", "b/lit_model.pth"])
    location = try CheckpointLocation(finding: directory.file("b"))
    #expect(location.weights == .sharded(directory.file("b")))
    #expect(location.notes.map(\.code) == ["checkpoint.chosen"])
    // Lightning's other values are of the checkpoint, and a name alone makes none.
    make(["c/.metadata", "c/__0_0.distcp", "c/meta.pt"])
    location = try CheckpointLocation(finding: directory.file("c"))
    #expect(location.weights == .sharded(directory.file("c")))
    #expect(location.notes.isEmpty)
    make(["d/.metadata", "d/lit_model.pth"])
    location = try CheckpointLocation(finding: directory.file("d"))
    #expect(location.weights == .file(directory.file("d/lit_model.pth")))
    #expect(location.notes.isEmpty)
  }

  @Test("an adapter in a run's only checkpoint is named as well")
  func innerAdapter() {
    make(["run/checkpoint-5/adapter_model.safetensors", "run/train.log"])
    let error = problem { () throws(Diagnostic) in
      _ = try CheckpointLocation(finding: directory.file("run"))
    }
    #expect(error?.code == "checkpoint.adapter")
    #expect(error?.subject == directory.file("run/checkpoint-5"))
  }

  @Test("weights beside an adapter or a DeepSpeed directory are read")
  func beside() throws {
    make(["adapter_config.json", "adapter_model.safetensors", "zero_to_fp32.py", "latest"])
    make(["model.safetensors", "consolidated.00.pth"])
    #expect(
      try CheckpointLocation(finding: directory.path).weights
        == .file(directory.file("model.safetensors")))
  }

  @Test("the index of a variant leads to its shards")
  func variant() throws {
    let index = "model.safetensors.index.fp16.json"
    let location = try find([
      index, "model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors",
    ])
    #expect(location.weights == .index(directory.file(index)))
    #expect(
      try CheckpointLocation(finding: directory.file(index)).weights
        == .index(directory.file(index)))
  }
}
