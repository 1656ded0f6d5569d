import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("Hostile HDF5")
struct HDF5HostileTests {
  @Test(
    "a bad file gives the code in its name, once, and no other",
    arguments: HDF5Support.files("bad"))
  func corpus(file: String) throws {
    let code = try #require(file.components(separatedBy: "__").first)
    let path = HDF5Support.directory("bad") + "/" + file
    guard code.hasPrefix("hdf5.") else {
      #expect(
        problems { () throws(Problems) in _ = try openCheckpoint(at: path) }.map(\.code) == [code])
      #expect(HDF5Support.codes(path) == ["hdf5.signature"])
      return
    }
    let codes = HDF5Support.codes(path)
    if code == "hdf5.crash" {
      // What one release of libhdf5 does not survive, another refuses.
      #expect(!codes.isEmpty && codes.allSatisfy { $0.hasPrefix("hdf5.") })
    } else {
      #expect(codes == [code])
    }
  }

  @Test("the corpus has its files")
  func corpusCount() {
    #expect(HDF5Support.files("bad").count >= 73)
  }

  @Test(
    "every truncation and every flipped byte of a small file gives an error or a clean read",
    arguments: ["earliest.h5", "v110.h5"])
  func damage(file: String) throws {
    let directory = TemporaryDirectory()
    let path = directory.file("damaged.h5")
    let good = Files.read(Fixtures.root + "/good/hdf5-small/" + file)
    Files.write(good, to: path)
    #expect(HDF5Support.codes(path) == [])
    for count in 0..<good.count {
      Files.write(Array(good[..<count]), to: path)
      let codes = HDF5Support.codes(path)
      #expect(!codes.isEmpty && codes.allSatisfy { $0.hasPrefix("hdf5.") }, "\(count) bytes")
    }
    for at in good.indices {
      var bytes = good
      bytes[at] ^= 0xFF
      Files.write(bytes, to: path)
      let codes = HDF5Support.codes(path)
      #expect(codes.allSatisfy { $0.hasPrefix("hdf5.") }, "byte \(at): \(codes)")
    }
  }

  @Test("a diagnostic names the file, the dataset and a way out")
  func diagnostic() throws {
    do throws(Problems) {
      _ = try HDF5Reader(path: HDF5Support.directory("bad") + "/hdf5.filter__lzf.h5")
      Issue.record("was read")
    } catch {
      let diagnostic = try #require(error.diagnostics.first)
      #expect(diagnostic.subject == #"hdf5.filter__lzf.h5: "/w""#)
      #expect(diagnostic.message.contains("lzf"))
      #expect(diagnostic.help?.contains("gzip") == true)
    }
  }
}
