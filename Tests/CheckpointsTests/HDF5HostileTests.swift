import Checkpoints
import Foundation
import Tensors
import Testing

@Suite("Hostile HDF5")
struct HDF5HostileTests {
  @Test(
    "a bad file gives the code in its name, once, and no other",
    arguments: HDF5Support.files("bad"))
  func corpus(file: String) throws {
    let code = try #require(file.components(separatedBy: "__").first)
    let codes = HDF5Support.codes(HDF5Support.directory("bad") + "/" + file)
    #expect(codes == ["hdf5.\(code)"])
  }

  @Test("the corpus has its files")
  func corpusCount() {
    #expect(HDF5Support.files("bad").count >= 72)
  }

  @Test("a diagnostic names the file, the dataset and a way out")
  func diagnostic() throws {
    do throws(Problems) {
      _ = try HDF5Reader(path: HDF5Support.directory("bad") + "/filter__lzf.h5")
      Issue.record("was read")
    } catch {
      let diagnostic = try #require(error.diagnostics.first)
      #expect(diagnostic.subject == #"filter__lzf.h5: "/w""#)
      #expect(diagnostic.message.contains("lzf"))
      #expect(diagnostic.help?.contains("gzip") == true)
    }
  }
}
