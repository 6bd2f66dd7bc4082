// exec and port-forward as clients carry them: WebSocket channels, and SPDY frames.

import { spawn } from "node:child_process";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { constants, deflateSync, inflateSync } from "node:zlib";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { WebSocket } from "ws";
import { forwardSpdy } from "../../../src/sandbox/apiserver/streams/port-forward.ts";
import { SPDY_DICTIONARY } from "../../../src/sandbox/apiserver/streams/spdy-dictionary.ts";
import type { NodeApi } from "../../../src/sandbox/node-api.ts";
import { type Harness, startHarness } from "./harness.ts";

const nodeApi: NodeApi = {
  async *logs(_namespace, pod, { container, tailLines }) {
    yield Buffer.from(`${pod}/${container} ${tailLines}\n`);
  },
  async exec(_namespace, _pod, { command: [program = "", ...args] }) {
    const child = spawn(program, args);
    const exit = new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve(code ?? 137));
    });
    return {
      stdin: child.stdin,
      stdout: child.stdout,
      stderr: child.stderr,
      exit,
      resize() {},
      close: () => child.kill(),
    };
  },
  attach: () => Promise.reject(new Error("not here")),
  dial: (_namespace, _pod, port) => dial(port),
};

function dial(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: "127.0.0.1", port, allowHalfOpen: true });
    socket.once("connect", () => resolve(socket));
    socket.once("error", reject);
  });
}

const test = suite<{ api: Harness; echo: Server; port: number }>("pod streams");
test.before(async (context) => {
  context.api = await startHarness(nodeApi);
  context.echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  await new Promise<void>((resolve) => context.echo.listen(0, "127.0.0.1", resolve));
  context.port = (context.echo.address() as { port: number }).port;
  const { cluster } = context.api;
  await cluster.create("", "serviceaccounts", "default", { metadata: { name: "default" } });
  await cluster.create("", "pods", "default", {
    metadata: { name: "p" },
    spec: { containers: [{ name: "c", image: "i" }] },
  });
  const ref = { group: "", resource: "pods", namespace: "default", name: "p" };
  await cluster.modify(ref, (pod) => ({ ...pod, status: { ...pod.status, phase: "Running" } }), {
    subresource: "status",
  });
});
test.after(async ({ api, echo }) => {
  await api.close();
  await new Promise((resolve) => echo.close(resolve));
});

const POD = "/api/v1/namespaces/default/pods/p";

async function client(api: Harness, path: string, protocol: string): Promise<WebSocket> {
  const ref = { group: "rbac.authorization.k8s.io", resource: "clusterrolebindings", name: "all" };
  if (!api.cluster.get(ref)) {
    await api.cluster.create(ref.group, ref.resource, undefined, {
      metadata: { name: "all" },
      roleRef: { kind: "ClusterRole", name: "cluster-admin" },
      subjects: [{ kind: "ServiceAccount", name: "default", namespace: "default" }],
    });
  }
  const { token } = await api.cluster.requestToken("default", "default");
  return new WebSocket(`wss://127.0.0.1:${api.port}${path}`, [protocol], {
    ca: api.ca,
    headers: { authorization: `Bearer ${token}` },
  });
}

test("exec over WebSocket: channels, half-close of stdin, exit code", async ({ api }) => {
  const script = encodeURIComponent("cat; echo problem >&2; exit 3");
  const ws = await client(
    api,
    `${POD}/exec?command=sh&command=-c&command=${script}&stdin=1&stdout=1&stderr=1`,
    "v5.channel.k8s.io",
  );
  const output = ["", "", "", ""];
  ws.on("message", (data: Buffer) => {
    output[data[0] as number] += data.subarray(1).toString();
  });
  await new Promise((resolve) => ws.once("open", resolve));
  ws.send(Buffer.concat([Buffer.of(0), Buffer.from("typed")]));
  ws.send(Buffer.of(255, 0));
  await new Promise((resolve) => ws.once("close", resolve));
  assert.equal(output.slice(1, 3), ["typed", "problem\n"]);
  assert.is(JSON.parse(output[3] as string).details.causes[0].message, "3");
});

test("port-forward over WebSocket channels announces its port and carries bytes", async ({ api, port }) => {
  const ws = await client(api, `${POD}/portforward?ports=${port}`, "v4.channel.k8s.io");
  const data: Buffer[] = [];
  const echoed = new Promise<void>((resolve) => {
    ws.on("message", (message: Buffer) => {
      if (message[0] === 0) data.push(message.subarray(1));
      if (Buffer.concat(data).includes("ping")) resolve();
    });
  });
  await new Promise((resolve) => ws.once("open", resolve));
  ws.send(Buffer.concat([Buffer.of(0), Buffer.from("ping")]));
  await echoed;
  assert.is(Buffer.concat(data).readUInt16LE(0), port);
  ws.close();
});

test("log asks for the container that the pod has", async ({ api }) => {
  assert.is((await api.call("GET", `${POD}/log?tailLines=2`)).body, "p/c 2\n");
  const wrong = await api.call("GET", `${POD}/log?container=x`);
  assert.is(wrong.body.message, "container x is not valid for pod p");
});

/** The client's half of a transport: what is written comes out at the server, and the other way round. */
function transport(): {
  server: Duplex;
  send(bytes: Buffer): void;
  received: Buffer[];
  changed(): Promise<void>;
} {
  const received: Buffer[] = [];
  let wake = () => {};
  const server = new Duplex({
    read() {},
    write(chunk, _encoding, callback) {
      received.push(chunk);
      wake();
      callback();
    },
  });
  return {
    server,
    received,
    send: (bytes) => void server.push(bytes),
    changed: () =>
      new Promise((resolve) => {
        wake = resolve;
      }),
  };
}

const control = (type: number, body: Buffer) =>
  Buffer.concat([
    Buffer.of(0x80, 3, 0, type, 0, body.length >> 16, (body.length >> 8) & 255, body.length & 255),
    body,
  ]);

/** One zlib stream cut where each header block ends. */
function headerBlocks(blocks: Array<Record<string, string>>): Buffer[] {
  const length = (value: number) => Buffer.of(0, 0, value >> 8, value & 255);
  const plain = blocks.map((headers) => {
    const entries = Object.entries(headers);
    const parts = entries.flatMap((pair) => pair.flatMap((text) => [length(text.length), Buffer.from(text)]));
    return Buffer.concat([length(entries.length), ...parts]);
  });
  const options = { dictionary: SPDY_DICTIONARY, finishFlush: constants.Z_SYNC_FLUSH };
  // The first block carries the zlib header; later ones go on with stored blocks.
  return plain.map((block, i) => {
    if (i === 0) return deflateSync(block, options);
    const stored = Buffer.of(
      0,
      block.length & 255,
      block.length >> 8,
      ~block.length & 255,
      (~block.length >> 8) & 255,
    );
    return Buffer.concat([stored, block, Buffer.of(0, 0, 0, 0xff, 0xff)]);
  });
}

test("SPDY port-forward pairs streams, answers in valid frames, and takes its input byte by byte", async ({
  port,
}) => {
  const { server, send, received, changed } = transport();
  const connection = forwardSpdy(server, dial);
  const headers = (streamtype: string) => ({ streamtype, port: String(port), requestid: "0" });
  const [error, data] = headerBlocks([headers("error"), headers("data")]) as [Buffer, Buffer];
  const open = (id: number, block: Buffer) =>
    control(1, Buffer.concat([Buffer.of(0, 0, 0, id, 0, 0, 0, 0, 0, 0), block]));
  const bytes = Buffer.concat([
    open(1, error),
    open(3, data),
    Buffer.of(0, 0, 0, 3, 0, 0, 0, 4),
    Buffer.from("ping"),
  ]);
  for (const byte of bytes) send(Buffer.of(byte));
  while (!Buffer.concat(received).includes("ping")) await changed();
  const all = Buffer.concat(received);
  assert.equal([...all.subarray(0, 4)], [0x80, 3, 0, 2], "SYN_REPLY");
  const block = all.subarray(12, 8 + all.readUInt32BE(4));
  const plain = inflateSync(block, { dictionary: SPDY_DICTIONARY, finishFlush: constants.Z_SYNC_FLUSH });
  assert.equal([...plain], [0, 0, 0, 0]);
  connection.close();
});

test("SPDY frames that are too long or of another version end the connection", async () => {
  for (const bytes of [Buffer.of(0, 0, 0, 1, 0, 0xff, 0xff, 0xff), Buffer.of(0x80, 2, 0, 1, 0, 0, 0, 0)]) {
    const { server, send } = transport();
    forwardSpdy(server, dial);
    send(bytes);
    await new Promise((resolve) => server.once("close", resolve));
  }
});

test.run();
