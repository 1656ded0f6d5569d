import Checkpoints
import TestSupport
import Tensors
import Testing

@Suite("HDF5 versions")
struct HDF5VersionTests {
  @Test("a superblock of a version that nobody knows is named", arguments: [4, 9, 255] as [UInt8])
  func superblock(version: UInt8) throws {
    let home = TemporaryDirectory()
    let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
    Files.write(
      signature + [version] + [UInt8](repeating: 0, count: 119), to: home.file("model.h5"))
    let error = #expect(throws: Problems.self) { try openCheckpoint(at: home.file("model.h5")) }
    #expect(error?.diagnostics.map(\.code) == ["hdf5.version"])
    #expect(error?.diagnostics.first?.message.contains("version \(version)") == true)
  }
}
