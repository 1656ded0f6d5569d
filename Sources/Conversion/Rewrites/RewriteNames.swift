/// The rewrites that a layout may name.
package enum RewriteNames {
  /// Those of `Rewrite.all`, and the one that the planner does before it tries patterns.
  package static let all: [String] = (Array(Rewrite.all.keys) + ["drop_zero_mlp"]).sorted()
}
