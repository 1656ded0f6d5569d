public import Tensors

extension Layout.Files {
  /// Names by which such weights are found, where a layout says none.
  private static let usual = ["pytorch": "pytorch_model.bin", "hdf5": "model.h5"]

  /// The weight file's name in a container.
  public func weightsName(in container: Container) -> String {
    weights[container.rawValue] ?? Self.usual[container.rawValue] ?? "model.\(container.rawValue)"
  }
}
