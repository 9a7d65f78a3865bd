"""Python's process pools as peers: takes an order a line on standard input, answers each in a line.

trips N         microseconds of each of N calls of nothing, one after the other
throughput N    such calls in a second, each with a result of its own
map N CHUNK     items in a second of a map of N, in chunks of that many; 0 is the default
carry BYTES     milliseconds that so many bytes take there and back
"""

import concurrent.futures
import multiprocessing
import sys
import time


def nothing(argument):
    return argument


class Executor:
    def __init__(self):
        self.pool = concurrent.futures.ProcessPoolExecutor(2)

    def call(self, argument):
        return self.pool.submit(nothing, argument).result()

    def calls(self, count):
        for future in [self.pool.submit(nothing, "x") for _ in range(count)]:
            future.result()

    def end(self):
        self.pool.shutdown()

    def map(self, count, chunk):
        for _ in self.pool.map(nothing, range(count), chunksize=chunk or 1):
            pass


class Pool:
    def __init__(self):
        self.pool = multiprocessing.Pool(2)

    def call(self, argument):
        return self.pool.apply(nothing, (argument,))

    def calls(self, count):
        for result in [self.pool.apply_async(nothing, ("x",)) for _ in range(count)]:
            result.get()

    def end(self):
        self.pool.terminate()

    def map(self, count, chunk):
        self.pool.map(nothing, range(count), chunksize=chunk or None)


def seconds(work, *arguments):
    before = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - before


def answer(peer, order, numbers):
    match order:
        case "trips":
            return [seconds(peer.call, "x") * 1e6 for _ in range(numbers[0])]
        case "throughput":
            return [numbers[0] / seconds(peer.calls, *numbers)]
        case "map":
            return [numbers[0] / seconds(peer.map, *numbers)]
        case "carry":
            return [seconds(peer.call, b"x" * numbers[0]) * 1e3]


def main():
    peer = {"executor": Executor, "pool": Pool}[sys.argv[1]]()
    peer.call("x")
    for line in sys.stdin:
        order, *numbers = line.split()
        print(*answer(peer, order, [int(number) for number in numbers]), flush=True)
    peer.end()


if __name__ == "__main__":
    main()
