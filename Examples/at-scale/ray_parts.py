"""One conversion by Ray: python ray_parts.py 4 SOURCE DESTINATION --to fla --max-shard-size 5GB"""
import subprocess, sys
import ray

parts, conversion = int(sys.argv[1]), ["weighbridge", "convert", *sys.argv[2:]]

@ray.remote(num_cpus=1, max_retries=3, retry_exceptions=[subprocess.CalledProcessError])
def part(k):
    return subprocess.run([*conversion, "--part", f"{k}/{parts}"], check=True).returncode

ray.get([part.remote(k) for k in range(1, parts + 1)])
subprocess.run([*conversion, "--finish"], check=True)
