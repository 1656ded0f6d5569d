// swift-tools-version: 6.1
import PackageDescription

/// Every target: Swift 6 mode, `any` spelled out, imports said at each file.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

/// Targets with loops over tensor bytes: a debug build of these is 40 to 140 times slower without it,
/// and `-O` keeps overflow and bounds traps.
let hot: [SwiftSetting] = strict + [.unsafeFlags(["-O"], .when(configuration: .debug))]

// On Linux the library is loaded when an HDF5 file is opened (CHDF5Loader) and not linked.
#if os(Linux)
  let hdf5: String? = nil
#else
  let hdf5: String? = "hdf5"
#endif

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let collections = Target.Dependency.product(
  name: "OrderedCollections", package: "swift-collections")

let package = Package(
  name: "weighbridge",
  platforms: [.macOS(.v15)],
  products: [
    .executable(name: "weighbridge", targets: ["weighbridge"]),
    // Everything behind one type, and each part for itself.
    .library(name: "WeighbridgeKit", targets: ["WeighbridgeKit"]),
    .library(name: "Tensors", targets: ["Tensors"]),
    .library(name: "Checkpoints", targets: ["Checkpoints"]),
    .library(name: "Hub", targets: ["Hub"]),
    .library(name: "Layouts", targets: ["Layouts"]),
    .library(name: "Conversion", targets: ["Conversion"]),
    .library(name: "Inference", targets: ["Inference"]),
    .library(name: "Parity", targets: ["Parity"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // Values and bytes.
    .target(
      name: "CKernels", cSettings: [.unsafeFlags(["-O2"], .when(configuration: .debug))]),
    .target(name: "Tensors", dependencies: ["CKernels", collections], swiftSettings: hot),
    .systemLibrary(
      name: "CHDF5", path: "Sources/CHDF5", pkgConfig: hdf5, providers: [.apt(["libhdf5-dev"])]),
    .target(name: "CHDF5Loader", dependencies: ["CHDF5"]),
    .systemLibrary(name: "CSystem", path: "Sources/CSystem"),
    .target(
      name: "Checkpoints",
      dependencies: ["Tensors", "CHDF5", "CHDF5Loader", "CKernels", "CSystem", collections],
      swiftSettings: hot),
    // Files and directories that appear whole or not at all.
    .target(
      name: "Output", dependencies: ["Tensors", "Checkpoints", crypto, collections],
      swiftSettings: strict),
    // A model as pieces that belong to no framework; everything meets here.
    .target(name: "Hub", dependencies: ["Tensors", collections], swiftSettings: hot),
    // Names, shapes and configs, as data.
    .target(
      name: "Layouts", dependencies: ["Tensors", "Hub", "Yams", collections], swiftSettings: strict,
      plugins: ["EmbedFormats"]),
    .executableTarget(
      name: "embed-formats", path: "Sources/Plugins/embed-formats", swiftSettings: strict),
    .plugin(
      name: "EmbedFormats", capability: .buildTool(), dependencies: ["embed-formats"],
      path: "Sources/Plugins/EmbedFormats"),
    // Source to plan to destination.
    .target(
      name: "Conversion", dependencies: ["Tensors", "Hub", "Checkpoints", "Layouts", collections],
      swiftSettings: hot),
    // The forward pass.
    .target(
      name: "Inference", dependencies: ["Tensors", "Hub", "CKernels"], swiftSettings: hot),
    .target(
      name: "Parity", dependencies: ["Tensors", "Hub", "Inference", collections], swiftSettings: hot),
    // The facade and the tool.
    .target(
      name: "WeighbridgeKit",
      dependencies: [
        "Tensors", "Hub", "Checkpoints", "Output", "Layouts", "Conversion", "Inference", "Parity",
        collections,
      ], swiftSettings: strict),
    .target(
      name: "Commands",
      dependencies: [
        "WeighbridgeKit", "Tensors", "Hub", "Checkpoints", "Output", "Conversion", "Layouts",
        "Inference", "Parity", argumentParser, collections,
      ],
      swiftSettings: strict),
    .executableTarget(name: "weighbridge", dependencies: ["Commands"], swiftSettings: strict),
    // The package that docs/use-it-from-swift.md shows, built with everything else.
    .executableTarget(
      name: "embed",
      dependencies: [
        "WeighbridgeKit", "Checkpoints", "Conversion", "Hub", "Inference", "Layouts", "Parity",
        "Tensors",
      ],
      path: "Examples/embed/Sources/embed", swiftSettings: strict),
    // Hostile inputs by the million.
    .target(
      name: "Fuzzing", dependencies: ["Tensors", "Checkpoints", "Layouts", "Inference"],
      swiftSettings: hot),
    .executableTarget(
      name: "weighbridge-fuzz", dependencies: ["Fuzzing"], path: "Sources/Fuzz",
      swiftSettings: strict),
    // Tests.
    .target(
      name: "TestSupport", dependencies: ["Tensors", "Checkpoints"], path: "Tests/TestSupport",
      swiftSettings: strict),
    .testTarget(
      name: "TensorsTests", dependencies: ["Tensors", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "CheckpointsTests", dependencies: ["Checkpoints", "Output", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "LayoutsTests", dependencies: ["Layouts", "Inference", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "ConversionTests",
      dependencies: ["Conversion", "WeighbridgeKit", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "InferenceTests", dependencies: ["Inference", "Checkpoints", "CKernels", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "ParityTests",
      dependencies: [
        "Parity", "WeighbridgeKit", "Checkpoints", "Conversion", "Inference", "Layouts",
        "TestSupport",
      ], swiftSettings: strict),
    .testTarget(
      name: "CommandsTests",
      dependencies: ["Commands", "WeighbridgeKit", "TestSupport", "embed", "weighbridge-fuzz"],
      swiftSettings: strict),
  ]
)
