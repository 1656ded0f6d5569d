extension PickleGlobal {
  /// Whether a pickle names this only to run code, or to reach what runs code, when Python loads it.
  ///
  /// Nothing here is ever called, so that the list decides over what is reported, not over what is
  /// safe. Every part of a dotted name counts: protocol 4 resolves `torch.serialization` `os.system`.
  package var isDangerous: Bool {
    let modules = module.split(separator: ".").map(String.init)
    let names = name.split(separator: ".").map(String.init)
    if (modules + names).contains(where: Self.reachesTheSystem.contains) {
      guard let first = modules.first, modules.count == 1, names.count == 1,
        Self.builtinModules.contains(first)
      else { return true }
      return !isHarmlessBuiltin
    }
    if let root = modules.first, Self.runsCodeAsRoot.contains(root) { return true }
    if names.contains(where: { $0.hasPrefix("__") }) { return !isHarmlessDunder }
    if let last = names.last, Self.runsCodeByName.contains(last) { return true }
    return Self.runsCode.contains { module == $0 || module.hasPrefix($0 + ".") }
      || Self.runsCode.contains(qualified)
  }

  /// Python's `getattr`, which enums of some versions are pickled with; what it gets must be judged.
  package var isGetattr: Bool {
    Self.builtinModules.contains(module) && name == "getattr"
  }

  private var isHarmlessBuiltin: Bool {
    Self.harmlessBuiltins.contains(name) || name.hasSuffix("Error") || name.hasSuffix("Exception")
      || name.hasSuffix("Warning") || isGetattr
  }

  /// Constructors whose names begin so in honest files: numpy's random generators, Cython's classes,
  /// and what old protocols make objects with.
  private var isHarmlessDunder: Bool {
    switch module {
    case "numpy.random._pickle":
      ["__randomstate_ctor", "__bit_generator_ctor", "__generator_ctor"].contains(name)
    case "copyreg", "copy_reg": ["__newobj__", "__newobj_ex__"].contains(name)
    default: name.hasPrefix("__pyx_unpickle_") && !name.contains(".")
    }
  }

  private static let builtinModules: Set<String> = ["builtins", "__builtin__"]

  /// Data types, and adapters that only wrap what they are given.
  private static let harmlessBuiltins: Set<String> = [
    "bool", "bytearray", "bytes", "complex", "dict", "enumerate", "filter", "float", "frozenset",
    "int", "list", "long", "map", "memoryview", "object", "range", "reversed", "set", "slice",
    "str",
    "tuple", "type", "unicode", "xrange", "zip", "Ellipsis", "NotImplemented", "NoneType",
    // Functions of values, which honest files keep as metrics and callbacks.
    "abs", "all", "any", "divmod", "len", "max", "min", "pow", "print", "repr", "round", "sorted",
    "sum",
  ]

  /// Modules that reach the system from wherever they are named.
  private static let reachesTheSystem: Set<String> = [
    "builtins", "__builtin__", "ctypes", "_ctypes", "importlib", "nt", "os", "posix", "pty",
    "runpy",
    "shutil", "socket", "subprocess", "_posixsubprocess", "sys",
  ]

  /// Modules that do as roots; deeper, their names are too common to say anything.
  private static let runsCodeAsRoot: Set<String> = [
    "_aix_support", "_osx_support", "_pickle", "_pyrepl", "_thread", "asyncio", "bdb", "cPickle",
    "cProfile", "cloudpickle", "codeop",
    "commands", "dill", "distutils", "doctest", "ensurepip", "ftplib", "http", "httplib", "idlelib",
    "imaplib", "imp", "inspect", "joblib", "jsonpickle", "lib2to3", "marshal", "multiprocessing",
    "pdb", "pickle", "pickletools",
    "pip",
    "pkgutil", "pydoc", "requests", "setuptools", "shelve", "signal", "site", "smtplib",
    "socketserver", "sqlite3", "ssl", "tarfile",
    "telnetlib", "tempfile", "timeit", "urllib", "urllib2", "venv", "webbrowser", "xmlrpc",
    "zipfile", "zipimport",
  ]

  private static let runsCodeByName: Set<String> = [
    "_create_code", "_create_function", "_fill_function", "_make_function", "breakpoint", "eval",
    "exec", "execfile", "popen", "runstring", "system",
  ]

  private static let runsCode: [String] = [
    "_functools.reduce", "_io.FileIO", "_io.open", "_operator.attrgetter", "_operator.methodcaller",
    "code.InteractiveConsole", "code.InteractiveInterpreter", "code.interact", "codecs.open",
    "functools.reduce", "io.FileIO", "io.open", "logging.FileHandler", "logging.config",
    "numpy.distutils", "numpy.f2py", "numpy.load",
    "numpy.testing", "pandas.read_pickle", "operator.attrgetter", "operator.methodcaller",
    "profile.Profile",
    "profile.run", "test.support", "torch._dynamo.guards", "torch._inductor",
    "torch.distributed.rpc", "torch.fx.graph_module", "torch.hub", "torch.jit", "torch.load",
    "torch.fx.experimental.symbolic_shapes", "torch.package", "torch.serialization.load",
    "torch.storage._load_from_bytes", "torch.utils._config_module", "torch.utils.bottleneck",
    "torch.utils.collect_env", "torch.utils.cpp_extension", "torch.utils.model_zoo", "trace.Trace",
    "types.CodeType", "types.FunctionType",
    "types.LambdaType", "types.MethodType", "uuid._get_command_stdout",
  ]
}
