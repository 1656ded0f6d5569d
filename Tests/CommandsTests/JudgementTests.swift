import TestSupport
import Tensors
import Testing

/// What users are told of weights that differ in ways that the tokens of a run may not show.
@Suite("Judgement of weights")
struct JudgementTests {
  /// 99 words in 104 rows; the head is a tensor of its own.
  static let padded = ModelFixture.named("mamba-bias-untied/mamba_ssm").path
  static let embedding = "backbone.embedding.weight"

  /// A copy of a checkpoint in safetensors with some tensors changed.
  private func copy(
    _ source: String, to path: String, prefixes: [String] = [""],
    _ change: (String, inout StoredCheckpoint.Tensor) -> Void = { _, _ in }
  ) throws -> String {
    var builder = SafetensorsBuilder()
    for prefix in prefixes {
      for (name, tensor) in try StoredCheckpoint(source).tensors.sorted(by: { $0.key < $1.key }) {
        var tensor = tensor
        change(name, &tensor)
        builder.add(prefix + name, tensor.dtype, tensor.shape, tensor.bytes)
      }
    }
    Files.makeDirectory(path)
    Files.write(builder.bytes, to: path + "/model.safetensors")
    Files.write(Files.read(source + "/config.json"), to: path + "/config.json")
    return path
  }

  /// Sets the first value of a row of the embedding.
  private func withRow(
    _ row: Int, _ value: Float, in directory: TemporaryDirectory, _ name: String
  ) throws -> String {
    try copy(Self.padded, to: directory.file(name)) { name, tensor in
      guard name == Self.embedding else { return }
      let start = row * tensor.bytes.count / tensor.shape[0]
      for i in 0..<4 {
        tensor.bytes[start + i] = UInt8(truncatingIfNeeded: value.bitPattern >> (8 * i))
      }
    }
  }

  private func problem(_ run: ToolRun, _ code: String) throws -> JSONValue? {
    try run.document()["problems"]?.array?.first { $0["code"]?.string == code }
  }

  @Test("a padding row that only B changed fails and is named", arguments: [Float(7), .nan])
  func paddingRow(_ value: Float) throws {
    let directory = TemporaryDirectory()
    let b = try withRow(101, value, in: directory, "b")
    for (x, y) in [(Self.padded, b), (b, Self.padded)] {
      let run = try BuiltTool.run("parity", x, y, "--random", "1x8", "--json")
      #expect(run.status == 1, "\(run.error)")
      let found = try #require(try problem(run, "parity.padding-rows-differ"))
      #expect(found["subject"]?.string == Self.embedding)
      #expect(found["message"]?.string?.hasPrefix("row 101 behind the 99 words") == true)
      let named = try problem(run, "parity.not-finite-weights")
      #expect((named != nil) == value.isNaN)
      if value.isNaN { #expect(named?["subject"]?.string == Self.embedding) }
    }
  }

  @Test("NaN that no token reaches is named by parity, verify and trace")
  func unreached() throws {
    let directory = TemporaryDirectory()
    let path = try withRow(101, .nan, in: directory, "a")
    let run = try BuiltTool.run("parity", path, path, "--random", "1x8", "--json")
    #expect(run.status == 0, "\(run.error)")
    #expect(try run.problems().contains("parity.not-finite-weights \(Self.embedding)"))
    let traced = try BuiltTool.run(
      "trace", path, directory.file("trace.safetensors"), "--random", "1x8", "--json")
    #expect(traced.status == 0)
    #expect(try traced.problems().contains("trace.not-finite \(Self.embedding)"))
    let beside = try BuiltTool.run(
      "parity", path, "--trace", directory.file("trace.safetensors"), "--json")
    #expect(beside.status == 0)
    #expect(try beside.problems().contains("parity.not-finite-weights \(Self.embedding)"))
    let converted = try BuiltTool.run(
      "convert", path, directory.file("out"), "--to", "hf", "--verify", "--no-fsync", "--json")
    #expect(converted.status == 0, "\(converted.error)")
    let all = try converted.problems()
    #expect(
      all.filter { $0.contains("not-finite") }.count == 1, "moved or not, it is told once: \(all)")
  }

  @Test("bytes that pass through memory are looked at, though no value is cast")
  func counted() throws {
    let directory = TemporaryDirectory()
    let path = try withRow(101, .nan, in: directory, "a")
    let first = try BuiltTool.run(
      "convert", path, directory.file("out"), "--to", "mamba_ssm", "--container", "hdf5",
      "--no-fsync", "--json")
    #expect(first.status == 0, "\(first.error)")
    // HDF5 is written through its library, and so through memory.
    let again = try BuiltTool.run(
      "convert", directory.file("out"), directory.file("again"), "--to", "hf", "--no-fsync",
      "--vocab-size", "112", "--json")
    #expect(again.status == 0, "\(again.error)")
    let found = try #require(try problem(again, "convert.not-finite"))
    #expect(found["message"]?.string?.hasPrefix("1 of ") == true)
  }

  @Test("trace names the first stage that is not finite, and the tensor")
  func trace() throws {
    let directory = TemporaryDirectory()
    let source = ModelFixture.named("mamba-tied/hf").path
    let path = try copy(source, to: directory.file("a")) { name, tensor in
      if name == FiniteTests.name { tensor.bytes.replaceSubrange(0..<4, with: [0, 0, 0xC0, 0x7F]) }
    }
    let run = try BuiltTool.run(
      "trace", path, directory.file("trace.safetensors"), "--random", "1x6", "--json")
    #expect(run.status == 0)
    let found = try #require(try problem(run, "trace.not-finite"))
    #expect(found["severity"]?.string == "warning")
    #expect(found["subject"]?.string == "hidden_states.2")
    let text = try BuiltTool.run(
      "trace", path, directory.file("trace2.safetensors"), "--random", "1x6")
    #expect(text.error.contains("\(FiniteTests.name) holds 1 value that is NaN or infinite"))
  }

  @Test("A_log cast down is said to be the fault")
  func castDown() throws {
    let directory = TemporaryDirectory()
    let source = ModelFixture.named("mamba-tied/hf").path
    let converted = try BuiltTool.run(
      "convert", source, directory.file("out"), "--to", "fla", "--dtype", "bfloat16", "--cast-all",
      "--verify", "--no-fsync")
    #expect(converted.status == 0, "\(converted.error)")
    let run = try BuiltTool.run(
      "parity", source, directory.file("out"), "--random", "1x8", "--json")
    #expect(run.status == 1)
    let found = try #require(try problem(run, "parity.cast-down"))
    #expect(found["severity"]?.string == "error")
    #expect(found["message"]?.string?.contains("rounded to BF16") == true)
    #expect(found["help"]?.string == "convert without --cast-all")
    #expect(try problem(run, "parity.reversed") == nil)
  }

  @Test("a cast given first is said to be one")
  func reversed() throws {
    let directory = TemporaryDirectory()
    let source = ModelFixture.named("mamba-tied/hf").path
    let converted = try BuiltTool.run(
      "convert", source, directory.file("out"), "--to", "fla", "--dtype", "bfloat16", "--no-fsync")
    #expect(converted.status == 0)
    let right = try BuiltTool.run(
      "parity", source, directory.file("out"), "--random", "1x8", "--json")
    #expect(right.status == 0)
    #expect(try problem(right, "parity.reversed") == nil)
    let run = try BuiltTool.run(
      "parity", directory.file("out"), source, "--random", "1x8", "--json")
    #expect(run.status == 1)
    let found = try #require(try problem(run, "parity.reversed"))
    #expect(found["subject"]?.string == directory.file("out"))
    #expect(found["message"]?.string?.hasPrefix("A is B rounded to BF16 in ") == true)
  }

  @Test("weights of a type that cannot be cast are told, not passed over")
  func notCast() throws {
    let directory = TemporaryDirectory()
    let name = "backbone.layers.0.mixer.out_proj.weight"
    let source = ModelFixture.named("mamba-tied/hf").path
    let path = try copy(source, to: directory.file("a")) { key, tensor in
      guard key == name else { return }
      tensor.dtype = .f8E4M3
      tensor.bytes = [UInt8](repeating: 0x38, count: tensor.bytes.count / 4)
    }
    for to in ["hf", "mamba_ssm"] {
      let run = try BuiltTool.run(
        "convert", path, directory.file(to), "--to", to, "--dtype", "float32", "--container",
        "safetensors", "--no-fsync", "--json")
      #expect(run.status == 0, "\(run.error)")
      let found = try #require(try problem(run, "convert.not-cast"))
      #expect(found["subject"]?.string == name)
      #expect(found["message"]?.string?.contains("1 of F8_E4M3") == true)
    }
    let kept = try BuiltTool.run(
      "convert", path, directory.file("kept"), "--to", "hf", "--no-fsync", "--json")
    #expect(kept.status == 0)
    #expect(try problem(kept, "convert.not-cast") == nil)
  }

  @Test("what is advised for B names B's own options", arguments: ["parity", "diff"])
  func secondSide(_ command: String) throws {
    let directory = TemporaryDirectory()
    let source = ModelFixture.named("mamba-tied/hf").path
    let two = try copy(source, to: directory.file("two"), prefixes: ["student.", "teacher."])
    let first = try BuiltTool.run(command, two, source)
    #expect(first.status == 2)
    #expect(first.error.contains("--key ") && !first.error.contains("--key-b"))
    let second = try BuiltTool.run(command, two, two, "--key", "teacher")
    #expect(second.status == 2)
    #expect(second.error.contains("--key-b "), "\(second.error)")
    let bare = directory.file("bare")
    Files.makeDirectory(bare)
    Files.write(Files.read(source + "/model.safetensors"), to: bare + "/model.safetensors")
    let missing = try BuiltTool.run(command, source, bare)
    #expect(missing.status == 2)
    #expect(missing.error.contains("--config-b"), "\(missing.error)")
  }
}
