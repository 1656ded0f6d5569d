"""One conversion by Dask: python dask_parts.py 4 SOURCE DESTINATION --to fla --max-shard-size 5GB"""
import subprocess, sys
from dask.distributed import Client

def part(k, parts, conversion):
    return subprocess.run([*conversion, "--part", f"{k}/{parts}"], check=True).returncode

if __name__ == "__main__":
    parts, conversion = int(sys.argv[1]), ["weighbridge", "convert", *sys.argv[2:]]
    client = Client()  # or Client("scheduler:8786")
    client.gather([client.submit(part, k, parts, conversion, retries=3, pure=False) for k in range(1, parts + 1)])
    subprocess.run([*conversion, "--finish"], check=True)
