"""Python's process pools as peers: takes `trips N` and `throughput N` on standard input, answers a line each."""

import concurrent.futures
import multiprocessing
import sys
import time


def nothing(argument):
    return argument


class Executor:
    def __init__(self):
        self.pool = concurrent.futures.ProcessPoolExecutor(2)

    def call(self):
        self.pool.submit(nothing, "x").result()

    def calls(self, count):
        for future in [self.pool.submit(nothing, "x") for _ in range(count)]:
            future.result()


class Pool:
    def __init__(self):
        self.pool = multiprocessing.Pool(2)

    def call(self):
        self.pool.apply(nothing, ("x",))

    def calls(self, count):
        for result in [self.pool.apply_async(nothing, ("x",)) for _ in range(count)]:
            result.get()


def main():
    peer = {"executor": Executor, "pool": Pool}[sys.argv[1]]()
    peer.call()
    for line in sys.stdin:
        order, count = line.split()
        if order == "trips":
            micros = []
            for _ in range(int(count)):
                before = time.perf_counter()
                peer.call()
                micros.append((time.perf_counter() - before) * 1e6)
            print(*micros, flush=True)
        else:
            before = time.perf_counter()
            peer.calls(int(count))
            print(int(count) / (time.perf_counter() - before), flush=True)


if __name__ == "__main__":
    main()
