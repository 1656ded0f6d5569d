import Checkpoints
public import Tensors

/// A config file as an object.
public func readConfig(_ path: String) throws -> JSONObject {
  try JSONParser.parse(Files.read(path), file: path).object!
}

/// The config beside a fixture.
public func config(of fixture: ModelFixture) throws -> JSONObject {
  try readConfig(CheckpointLocation(finding: fixture.path).config!)
}
