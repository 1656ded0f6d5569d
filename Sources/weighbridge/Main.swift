import Commands

@main
struct Main {
  static func main() { Tool.start() }
}
