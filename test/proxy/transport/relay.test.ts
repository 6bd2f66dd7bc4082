// Reads into shared memory: what is relayed arrives as it was sent, whatever the sizes and however slow the reader,
// on several connections at once, which share one buffer.
import { createHash, randomBytes } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readInto, readLean } from "../../../src/proxy/transport/reads.ts";
import { Relay } from "../../../src/proxy/transport/relay.ts";
import { terminateTls } from "../../../src/proxy/transport/terminate.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { createAuthority } from "../../support/proxy-fakes.ts";

const test = suite("relay");
const NAME = "server.test";
const authority = createAuthority();

/** Bytes counted by a relay. */
const counter = () => ({
  value: 0,
  inc(by = 1) {
    this.value += by;
  },
});

interface Connection {
  /** The end that the test holds. */
  readonly outer: Socket;
  /** The end that the proxy accepted, paused. */
  readonly inner: Socket;
  close(): void;
}

async function open(tls: boolean): Promise<Connection> {
  let resolve!: (inner: Socket) => void;
  const promise = new Promise<Socket>((settle) => {
    resolve = settle;
  });
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (raw) => {
    raw.on("error", () => {});
    if (!tls) resolve(raw);
    else
      terminateTls(raw, Buffer.alloc(0), authority.credentials(NAME), systemClock, (error, terminated) => {
        assert.is(error, undefined);
        resolve(terminated!.socket);
      });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  const outer = tls
    ? connectTls({ port, servername: NAME, secureContext: authority.credentials(NAME).clientContext })
    : connect(port, "127.0.0.1");
  outer.on("error", () => {});
  return { outer, inner: await promise, close: () => void server.close() };
}

/** Reads to the end, resting now and then so that the sender has to wait. */
async function digest(socket: Socket, slow: boolean): Promise<string> {
  const hash = createHash("sha256");
  let since = 0;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    hash.update(chunk);
    since += chunk.length;
    if (slow && since > 2_000_000) {
      since = 0;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  return hash.digest("hex");
}

/** Writes pieces of these sizes. @returns the digest of it all */
async function send(socket: Socket, sizes: readonly number[]): Promise<string> {
  const hash = createHash("sha256");
  for (const size of sizes) {
    const bytes = randomBytes(size);
    hash.update(bytes);
    if (!socket.write(bytes)) await new Promise((resolve) => socket.once("drain", resolve));
    // What is sent apart is read apart.
    else await new Promise((resolve) => setImmediate(resolve));
  }
  socket.end();
  return hash.digest("hex");
}

const LARGE = Array.from({ length: 24 }, (_, i) => 500_000 + 7 * i);
const SMALL = Array.from({ length: 300 }, (_, i) => 1 + ((i * 37) % 900));
const MIXED = [...SMALL.slice(0, 50), 300_000, ...SMALL.slice(50, 99), 16_384, 16_385, 1, 2_000_000, 5];

/** Takes from an accepted socket what reads of ours need, as a Node would be whose net has it no more. */
function withoutOnRead(socket: Socket): void {
  const { _handle } = socket as unknown as { _handle: { useUserBuffer?: unknown } };
  assert.type(_handle.useUserBuffer, "function");
  _handle.useUserBuffer = undefined;
}

for (const [name, fromTls, toTls, slow, plainNode = false] of [
  ["plain to plain, by a Node that reads as it likes", false, false, false, true],
  ["plain to a slow reader, by a Node that reads as it likes", false, false, true, true],
  ["plain to plain", false, false, false],
  ["plain to a slow reader", false, false, true],
  ["plain to TLS", false, true, false],
  ["plain to a slow reader over TLS", false, true, true],
  ["TLS to plain", true, false, false],
  ["TLS to a slow reader", true, false, true],
] as const) {
  test(`bytes arrive as they were sent: ${name}`, async () => {
    await Promise.all(
      [LARGE, SMALL, MIXED, LARGE].map(async (sizes) => {
        const [from, to] = [await open(fromTls), await open(toTls)];
        if (plainNode) withoutOnRead(from.inner);
        const [read, written] = [counter(), counter()];
        const relay = new Relay(from.inner, to.inner, read, written);
        from.inner.on("data", (chunk: Buffer) => void relay.write(chunk));
        from.inner.on("end", () => to.inner.end());
        to.inner.on("drain", () => relay.drained());
        from.inner.resume();
        const [sent, arrived] = await Promise.all([send(from.outer, sizes), digest(to.outer, slow)]);
        assert.is(arrived, sent);
        const total = sizes.reduce((sum, size) => sum + size, 0);
        assert.equal([read.value, written.value], [total, total]);
        for (const { outer, inner, close } of [from, to]) {
          outer.destroy();
          inner.destroy();
          close();
        }
      }),
    );
  });
}

for (const tls of [false, true]) {
  test(`lean reads keep no more memory than came, ${tls ? "with" : "without"} TLS`, async () => {
    const { outer, inner, close } = await open(tls);
    readLean(inner);
    const chunks: Buffer[] = [];
    inner.on("data", (chunk: Buffer) => chunks.push(chunk));
    inner.resume();
    const sent = await send(outer as TLSSocket, SMALL);
    await new Promise((resolve) => inner.once("end", resolve));
    assert.is(createHash("sha256").update(Buffer.concat(chunks)).digest("hex"), sent);
    // Small ones lie together on the pages that Node keeps for that.
    for (const { length, buffer } of chunks)
      assert.ok(buffer.byteLength <= Math.max(length, Buffer.poolSize));
    outer.destroy();
    inner.destroy();
    close();
  });
}

test("where net has no such fields, sockets emit what they read, and it is told that they do", async () => {
  const { outer, inner, close } = await open(false);
  withoutOnRead(inner);
  const told = readInto(inner, Buffer.alloc(16), () => assert.unreachable("no callback") as never);
  assert.is(told, false);
  readLean(inner);
  const chunks: Buffer[] = [];
  inner.on("data", (chunk: Buffer) => chunks.push(chunk));
  inner.resume();
  const sent = await send(outer, MIXED);
  await new Promise((resolve) => inner.once("end", resolve));
  assert.is(createHash("sha256").update(Buffer.concat(chunks)).digest("hex"), sent);
  outer.destroy();
  inner.destroy();
  close();
});

test.run();
