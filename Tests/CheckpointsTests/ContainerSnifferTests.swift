import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Telling containers apart")
struct ContainerSnifferTests {
  let directory = TemporaryDirectory()

  func sniff(_ bytes: [UInt8], _ name: String = "weights.bin") throws(Diagnostic) -> Container {
    Files.write(bytes, to: directory.file(name))
    return try ContainerSniffer.sniff(path: directory.file(name))
  }

  @Test("each container is known by its first bytes, whatever its name")
  func known() throws {
    let hdf5: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
    #expect(try sniff(SafetensorsBuilder().bytes) == .safetensors)
    #expect(try sniff(hdf5) == .hdf5)
    #expect(try sniff([UInt8](repeating: 0, count: 1024) + hdf5) == .hdf5)
    #expect(try sniff(Array("PK\u{3}\u{4}".utf8) + [UInt8](repeating: 0, count: 40)) == .pytorch)
    #expect(try sniff([1, 2, 3], "damaged.safetensors") == .safetensors)
    #expect(try sniff([], "empty.safetensors") == .safetensors)
    #expect(try sniff(Array("GGUF\u{3}\0\0\0".utf8)) == .gguf)
    #expect(try sniff([], "empty.gguf") == .gguf)
    #expect(try sniff(Self.npz) == .npz)
  }

  static let tar = [UInt8](repeating: 0, count: 257) + Array("ustar\u{0}00".utf8)
  static let npz =
    Array("PK\u{3}\u{4}".utf8) + [UInt8](repeating: 0, count: 22) + [5, 0, 0, 0]
    + Array("a.npy".utf8)

  @Test(
    "other formats are refused by name",
    arguments: [
      ([], "empty"), (Array("lmgg\u{3}\0\0\0".utf8), "ggml"), ([0x1F, 0x8B, 8, 0], "gzip"),
      (Array("version https://git-lfs.github.com/spec/v1\n".utf8), "git-lfs"),
      (Array("\n<!DOCTYPE html><html>".utf8), "html"), (Array("{\"a\": 1}".utf8), "text"),
      (
        [0x80, 2, 0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E],
        "legacy-torch"
      ),
      ([0x80, 4, 0x95, 0, 0], "pickle"), ([0x93] + Array("NUMPY\u{1}".utf8), "npy"),
      (tar, "tar"), ([1, 2, 3, 4], "unknown"),
    ] as [([UInt8], String)])
  func foreign(_ bytes: [UInt8], _ code: String) {
    let error = problem { () throws(Diagnostic) in _ = try sniff(bytes) }
    #expect(error?.code == "container.\(code)")
    #expect(error?.help != nil)
  }

  @Test("a git-lfs pointer or a web page named .safetensors is told as such")
  func disguised() {
    for (text, code) in [
      ("version https://git-lfs.github.com/spec/v1\n", "container.git-lfs"),
      ("<html><body>404</body></html>", "container.html"),
    ] {
      let error = problem { () throws(Diagnostic) in
        _ = try sniff(Array(text.utf8), "model.safetensors")
      }
      #expect(error?.code == code)
    }
  }
}
