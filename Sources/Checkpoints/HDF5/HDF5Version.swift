package import Tensors

/// The version of libhdf5.
package enum HDF5Version {
  /// Loads the library, and tells its version: `1.10.8`.
  ///
  /// - Throws: `hdf5.no-library`.
  package static func loaded() throws(Diagnostic) -> String {
    try HDF5Library.load()
    return HDF5Library.version
  }
}
