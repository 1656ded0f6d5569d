import Tensors
import Testing

@Suite("The cores that a process may use")
struct CoresTests {
  @Test("threads follow affinity and quota, whichever is less, and are at least one")
  func usable() {
    #expect(Cores(online: 16, allowed: 16, quota: nil).usable == 16)
    #expect(Cores(online: 16, allowed: 4, quota: nil).usable == 4)
    #expect(Cores(online: 16, allowed: 4, quota: 1.5).usable == 2)
    #expect(Cores(online: 16, allowed: 16, quota: 0.25).usable == 1)
    #expect(
      Cores(online: 16, allowed: 4, quota: 1.5).description
        == "2 of 16 cores (bound to 4, a quota of 1.5)")
    #expect(Cores(online: 1, allowed: 1, quota: nil).description == "1 core")
  }

  @Test("the least quota of a cgroup and those above it counts, in version 2")
  func unified() {
    let files = [
      "/sys/fs/cgroup/cpu.max": "max 100000\n",
      "/sys/fs/cgroup/a/cpu.max": "150000 100000\n",
      "/sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
    ]
    #expect(Cores.quota(cgroups: "0::/a/b\n") { files[$0] } == 1.5)
    #expect(Cores.quota(cgroups: "0::/c\n") { files[$0] } == nil)
    #expect(Cores.quota(cgroups: "0::/\n") { _ in "50000 100000" } == 0.5)
  }

  @Test("version 1 has the quota in two files, and -1 is none")
  func first() {
    let files = [
      "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n",
      "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    ]
    let groups = "5:memory:/job\n4:cpu,cpuacct:/job\n"
    #expect(Cores.quota(cgroups: groups) { files[$0] } == 2.5)
    #expect(Cores.quota(cgroups: groups) { _ in nil } == nil)
  }

  @Test("what the system says wrongly is no limit", arguments: ["", "x y", "0 0", "nan 1", "max"])
  func nonsense(text: String) {
    #expect(Cores.quota(cgroups: "0::/a\n") { _ in text } == nil)
    #expect(Cores.quota(cgroups: text) { _ in "100 100" } == nil)
  }
}
