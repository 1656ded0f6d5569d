import Checkpoints
import Inference
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Something that this machine has, lacks or limits.
public struct MachineFinding: Sendable {
  /// How it is.
  public enum Status: String, Sendable {
    /// As it should be.
    case fine
    /// Some work cannot be done, or is slower.
    case limited
    /// Nothing can be computed.
    case missing
  }

  /// What: `OpenBLAS`.
  public var name: String
  /// How it is.
  public var status: Status
  /// What was found.
  public var value: String
  /// What to do; `nil` where there is nothing.
  public var help: String?

  init(_ name: String, _ status: Status = .fine, _ value: String, help: String? = nil) {
    self.name = name
    self.status = status
    self.value = value
    self.help = help
  }
}

extension Weighbridge {
  /// Looks which libraries, processor, memory and limits there are.
  public static func examineMachine() -> [MachineFinding] {
    [
      MachineFinding("weighbridge", .fine, version), cores, vectors, blas, hdf5, memory, openFiles,
    ]
  }

  private static var cores: MachineFinding {
    let cores = Cores.current
    return MachineFinding(
      "cores", cores.usable < cores.online ? .limited : .fine, cores.description,
      help: cores.usable < cores.online
        ? "the process is bound to these, or its cgroup has a quota; no more threads are started"
        : nil)
  }

  private static var vectors: MachineFinding {
    MachineFinding("vectors", .fine, EngineDescription.current.vectors)
  }

  private static var blas: MachineFinding {
    do throws(Diagnostic) {
      try BLAS.load()
      return MachineFinding("OpenBLAS", .fine, "\(BLAS.core) kernels, \(BLAS.configuration)")
    } catch { return MachineFinding("OpenBLAS", .missing, error.message, help: error.help) }
  }

  private static var hdf5: MachineFinding {
    do throws(Diagnostic) {
      return MachineFinding("libhdf5", .fine, try HDF5Version.loaded())
    } catch { return MachineFinding("libhdf5", .limited, error.message, help: error.help) }
  }

  private static var memory: MachineFinding {
    let pages = sysconf(Int32(_SC_PHYS_PAGES))
    let page = sysconf(Int32(_SC_PAGESIZE))
    var value = pages > 0 && page > 0 ? gigabytes(pages * page) : "unknown"
    var limit = rlimit()
    #if canImport(Glibc)
      let resource = __rlimit_resource_t(UInt32(RLIMIT_AS.rawValue))
    #else
      let resource = RLIMIT_AS
    #endif
    if getrlimit(resource, &limit) == 0, limit.rlim_cur < UInt64(Int64.max) {
      value += ", a limit of \(gigabytes(Int(limit.rlim_cur))) of addresses"
      return MachineFinding(
        "memory", .limited, value, help: "`ulimit -v unlimited` takes the limit away")
    }
    return MachineFinding("memory", .fine, value)
  }

  private static func gigabytes(_ count: Int) -> String {
    "\(Double(count / 100_000_000) / 10) GB"
  }

  private static var openFiles: MachineFinding {
    var limit = rlimit()
    #if canImport(Glibc)
      let resource = __rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue))
    #else
      let resource = RLIMIT_NOFILE
    #endif
    guard getrlimit(resource, &limit) == 0 else {
      return MachineFinding("open files", .fine, "unknown")
    }
    return MachineFinding("open files", .fine, "\(limit.rlim_cur) at once")
  }
}
