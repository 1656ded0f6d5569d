import Checkpoints
import Tensors
import TestSupport
import Testing

@Suite("Sharded checkpoints: hostile ones", .tags(.slow))
struct DCPHostileTests {
  @Test(
    "every malformed directory yields exactly the code in its name, within a second",
    arguments: Files.names(in: Fixtures.path("bad/dcp")))
  func corpus(name: String) throws {
    let clock = ContinuousClock()
    var codes: Set<String> = []
    let time = clock.measure { codes = read(Fixtures.path("bad/dcp/" + name)) }
    #expect(codes == [Fixtures.expectedCode(name)], "\(name)")
    #expect(time < .seconds(2))
  }

  @Test("the corpus is all there")
  func count() { #expect(Files.names(in: Fixtures.path("bad/dcp")).count >= 53) }

  /// What opening a directory and reading every tensor ends in.
  private func read(_ path: String) -> Set<String> {
    do throws(Problems) {
      let source = try openCheckpoint(at: path)
      for number in source.tensors.indices {
        do throws(Diagnostic) { _ = try source.bytes(of: number) } catch {
          throw Problems([error])
        }
      }
      return []
    } catch { return Set(error.diagnostics.map(\.code)) }
  }

  @Test("a diagnostic names the tensor, the file, what was found and what to do")
  func words() throws {
    let path = Fixtures.path("bad/dcp/dcp.stored-dtype__double")
    let found = problems { () throws(Problems) in _ = try openCheckpoint(at: path) }
    let problem = try #require(found.first)
    #expect(found.count == 1)
    #expect(problem.subject == path + #"/__0_0.distcp: tensor "w""#)
    #expect(problem.message == "is stored as F64, but the index says F32")
    #expect(problem.help?.isEmpty == false)
  }

  @Test(
    "the place of a hole and of an overlap is told",
    arguments: [
      ("dcp.hole__rows", "[2, 0]"), ("dcp.hole__corner", "[3, 2]"),
      ("dcp.hole__last-rows", "[4, 0]"), ("dcp.overlap__rows", "[3, 0]"),
      ("dcp.overlap__of-equal-volume", "[3, 0]"),
      ("dcp.overlap__grid-of-equal-volume", "[2, 1]"),
    ])
  func places(name: String, place: String) throws {
    let path = Fixtures.path("bad/dcp/" + name)
    let found = problems { () throws(Problems) in _ = try openCheckpoint(at: path) }
    #expect(found.first?.message.contains("the element \(place)") == true, "\(found)")
  }

  @Test("a link to a file outside the directory is refused, one inside is followed")
  func links() throws {
    let folder = TemporaryDirectory()
    Files.makeDirectory(folder.file("in"))
    let good = Fixtures.path("good/dcp/three-rows/")
    Files.write(Files.read(good + ".metadata"), to: folder.file("in/.metadata"))
    Files.write(Files.read(good + "__0_0.distcp"), to: folder.file("outside"))
    Files.link(folder.file("in/__0_0.distcp"), to: folder.file("outside"))
    #expect(read(folder.file("in")) == ["dcp.symlink"])
    Files.remove(folder.file("in/__0_0.distcp"))
    Files.write(Files.read(good + "__0_0.distcp"), to: folder.file("in/data"))
    Files.link(folder.file("in/__0_0.distcp"), to: folder.file("in/data"))
    #expect(read(folder.file("in")) == [])
  }

  @Test("no change of a byte of the index ends in a trap, a hang or other numbers unnoticed")
  func bytes() throws {
    let good = Fixtures.path("good/dcp/three-rows/")
    let index = Files.read(good + ".metadata")
    let folder = TemporaryDirectory()
    Files.write(Files.read(good + "__0_0.distcp"), to: folder.file("__0_0.distcp"))
    let expected = Set([(0..<24).map { Float($0) }, (100..<106).map { Float($0) }])
    for place in index.indices {
      for change in [1, 0x80] as [UInt8] {
        var changed = index
        changed[place] ^= change
        Files.write(changed, to: folder.file(".metadata"))
        guard let source = try? openCheckpoint(at: folder.path) else { continue }
        for info in source.tensors where info.dtype == .f32 {
          guard let values = try? source.floats(info.name) else { continue }
          #expect(expected.contains(values), "byte \(place) ^ \(change): \(info)")
        }
      }
    }
  }
}
