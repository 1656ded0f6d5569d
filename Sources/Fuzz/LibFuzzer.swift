// Built by `checks/fuzz --libfuzzer`, which brings the runtime.
#if LIBFUZZER
  import Fuzzing
  import Glibc

  /// Started with the target before libFuzzer calls anything; it uses one thread.
  nonisolated(unsafe) private var guided: CoverageGuided?

  @_silgen_name("LLVMFuzzerRunDriver")
  private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
  ) -> CInt

  @_silgen_name("LLVMFuzzerMutate")
  private func generalMutate(_ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ most: Int) -> Int

  /// libFuzzer's name for a mutator of the target's own.
  @_cdecl("LLVMFuzzerCustomMutator")
  public func customMutator(
    _ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ most: Int, _ seed: UInt32
  ) -> Int {
    let input = Array(UnsafeBufferPointer(start: data, count: size))
    let changed = guided!.change(input, most: most, seed: seed) { bytes, most in
      guard most > 0 else { return bytes }
      return [UInt8](unsafeUninitializedCapacity: max(most, bytes.count)) { buffer, count in
        _ = buffer.update(fromContentsOf: bytes)
        count = generalMutate(buffer.baseAddress!, min(bytes.count, most), most)
      }
    }
    _ = UnsafeMutableBufferPointer(start: data, count: most).update(fromContentsOf: changed)
    return changed.count
  }

  /// `weighbridge-fuzz TARGET CORPUS [OPTION…]`: `CORPUS` gets the fixtures; options are libFuzzer's.
  @main
  struct LibFuzzer {
    static func main() throws {
      guard CommandLine.argc >= 3, let target = FuzzTarget(rawValue: CommandLine.arguments[1])
      else { fatalError("weighbridge-fuzz TARGET CORPUS [OPTION…]") }
      let made = try CoverageGuided(target, package: ".")
      made.writeSeeds(into: CommandLine.arguments[2])
      guided = made
      // libFuzzer sees its own name, the corpus and the options.
      var count = CommandLine.argc - 1
      var arguments = CommandLine.unsafeArgv + 1
      exit(
        runDriver(&count, &arguments) { data, size in
          guided!.read(UnsafeRawBufferPointer(start: data, count: size))
          return 0
        })
    }
  }
#endif
