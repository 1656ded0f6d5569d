// swift-tools-version: 6.1
import PackageDescription

// Apart from the main package, so that its build stays small.
let package = Package(
  name: "Benchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "weighbridge", path: "..")],
  targets: [
    .executableTarget(
      name: "EngineBench",
      dependencies: ["Inference", "Layouts", "Tensors"].map {
        .product(name: $0, package: "weighbridge")
      },
      swiftSettings: [
        .swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
      ])
  ])
