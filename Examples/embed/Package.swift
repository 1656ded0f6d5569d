// swift-tools-version: 6.1
import PackageDescription

let package = Package(
  name: "embed",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "weighbridge", path: "../..")],
  targets: [
    .executableTarget(
      name: "embed",
      dependencies: [
        .product(name: "WeighbridgeKit", package: "weighbridge"),
        .product(name: "Checkpoints", package: "weighbridge"),
        .product(name: "Conversion", package: "weighbridge"),
        .product(name: "Hub", package: "weighbridge"),
        .product(name: "Inference", package: "weighbridge"),
        .product(name: "Layouts", package: "weighbridge"),
        .product(name: "Parity", package: "weighbridge"),
        .product(name: "Tensors", package: "weighbridge"),
      ],
      swiftSettings: [.swiftLanguageMode(.v6)])
  ]
)
