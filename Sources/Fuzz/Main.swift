#if !LIBFUZZER
  import Fuzzing
  import Synchronization

  #if canImport(Glibc)
    import Glibc
  #elseif canImport(Musl)
    import Musl
  #else
    import Darwin
  #endif

  /// `weighbridge-fuzz TARGET EXECUTIONS [SEED [FIRST]]`, in the package's directory: reads that many
  /// changed fixtures; `weighbridge-fuzz show TARGET SEED NUMBER` writes one to standard output.
  @main
  struct Main {
    static func main() throws {
      let arguments = CommandLine.arguments.dropFirst().map { $0 }
      if arguments.first == "show", arguments.count == 4,
        let target = FuzzTarget(rawValue: arguments[1]), let seed = UInt64(arguments[2]),
        let number = Int(arguments[3])
      {
        let bytes = try FuzzRun.input(target, number: number, seed: seed, package: ".")
        _ = bytes.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
        return
      }
      guard arguments.count >= 2, let target = FuzzTarget(rawValue: arguments[0]),
        let executions = Int(arguments[1])
      else {
        print("usage: weighbridge-fuzz TARGET EXECUTIONS [SEED [FIRST]]")
        print("targets: " + FuzzTarget.allCases.map(\.rawValue).joined(separator: " "))
        exit(64)
      }
      let seed = arguments.count > 2 ? UInt64(arguments[2]) ?? 0 : 0
      let first = arguments.count > 3 ? Int(arguments[3]) ?? 0 : 0
      watch()
      let run = try FuzzRun(target, executions: executions, first: first, seed: seed, package: ".")
      print(
        "\(target.rawValue): \(run.executions) executions from \(first), seed \(seed): "
          + "\(run.accepted) accepted, \(run.executions - run.accepted) refused, "
          + "\(Int(run.seconds)) s, slowest \(Int(run.slowest * 1e3)) ms (\(run.slowestNumber)), "
          + "grew \(run.growth) MB")
      if run.slowest > 5 || run.growth > 512 { exit(1) }
    }

    /// Tells which input it was when the process crashes or hangs.
    private static func watch() {
      for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT, SIGFPE] {
        _ = signal(number) { number in
          tell("crash")
          signal(number, SIG_DFL)
          raise(number)
        }
      }
      // Every five seconds of the processor's time, not of a busy machine's clock.
      _ = signal(SIGPROF) { _ in
        let now = FuzzRun.current.load(ordering: .relaxed)
        if now >= 0, now == seen.exchange(now, ordering: .relaxed) {
          tell("longer than 5 s")
          _exit(1)
        }
      }
      let every = timeval(tv_sec: 5, tv_usec: 0)
      var timer = itimerval(it_interval: every, it_value: every)
      #if canImport(Glibc)
        setitimer(__itimer_which_t(ITIMER_PROF.rawValue), &timer, nil)
      #else
        setitimer(ITIMER_PROF, &timer, nil)
      #endif
    }
  }

  private let seen = Atomic(-1)

  /// Without memory of its own: the process may have none.
  private func tell(_ what: StaticString) {
    _ = write(2, what.utf8Start, what.utf8CodeUnitCount)
    _ = write(2, " at input ", 10)
    var number = FuzzRun.current.load(ordering: .relaxed)
    var divisor = 1_000_000_000_000
    while divisor > 0 {
      var digit = UInt8(48 + number / divisor % 10)
      _ = write(2, &digit, 1)
      number %= divisor
      divisor /= 10
    }
    _ = write(2, "\n", 1)
  }
#endif
