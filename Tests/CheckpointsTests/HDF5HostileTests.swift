import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("Hostile HDF5", .tags(.slow))
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
      _ = try HDF5Reader(path: HDF5Support.directory("bad") + "/hdf5.filter__scaleoffset.h5")
      Issue.record("was read")
    } catch {
      let diagnostic = try #require(error.diagnostics.first)
      #expect(diagnostic.subject == #"hdf5.filter__scaleoffset.h5: "/w""#)
      #expect(diagnostic.message.contains(#"filter 6 ("scaleoffset")"#))
      #expect(diagnostic.help?.contains("gzip") == true)
    }
  }

  @Test(
    "a fault of many datasets is told once, with their number and the first of them",
    arguments: [
      ("hdf5.filter__twenty_datasets", 20, #"is packed with filter 6 ("scaleoffset")"#, "/w14"),
      ("hdf5.dtype__eight_of_one_kind", 8, "has elements of type 128-bit float", "/w7"),
    ])
  func grouped(file: String, count: Int, message: String, last: String) throws {
    let found = problems { () throws(Problems) in
      _ = try HDF5Reader(path: HDF5Support.directory("bad") + "/\(file).h5")
    }
    #expect(found.map(\.subject) == ["\(file).h5"])
    #expect(found.first?.message.hasPrefix("each of \(count) objects \(message)") == true)
    #expect(found.first?.notes.first?.hasPrefix(#"they are "/w0", "/w1", "#) == true)
    #expect(found.first?.notes.first?.contains("\"\(last)\"") == true)
  }

  @Test("a file of nothing but texts is refused, and they are named")
  func onlyCompany() throws {
    let found = problems { () throws(Problems) in
      _ = try HDF5Reader(path: HDF5Support.directory("bad") + "/hdf5.no-tensors__only_a_text.h5")
    }
    #expect(found.map(\.message) == [#"holds no tensor, only "/config" (text)"#])
  }
}
