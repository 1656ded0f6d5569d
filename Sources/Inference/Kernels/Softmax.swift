/// x[i] = e^x[i] / Σ e^x[j], i in 0..<n; the sum in float64
@inline(__always)
func softmax<T: Real>(_ x: UnsafeMutablePointer<T>, _ n: Int) {
  guard n > 0 else { return }
  var top = x[0]
  for i in 1..<max(n, 1) { top = x[i] > top ? x[i] : top }
  for i in 0..<n { x[i] = T.exp(x[i] - top) }
  var (s0, s1, s2, s3) = (0.0, 0.0, 0.0, 0.0)
  var i = 0
  while i &+ 4 <= n {
    s0 += Double(x[i])
    s1 += Double(x[i &+ 1])
    s2 += Double(x[i &+ 2])
    s3 += Double(x[i &+ 3])
    i &+= 4
  }
  while i < n {
    s0 += Double(x[i])
    i &+= 1
  }
  let scale = T(1 / ((s0 + s1) + (s2 + s3)))
  for i in 0..<n { x[i] *= scale }
}
