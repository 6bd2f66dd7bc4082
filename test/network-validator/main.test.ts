// The validator without a redirect: what it says when connections go elsewhere. With one: test/e2e/proxy-init.test.ts.
import { createServer, type Server } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../src/log/logger.ts";
import { main } from "../../src/network-validator/main.ts";
import { parseOptions } from "../../src/network-validator/options.ts";
import { freePort } from "../support/free-port.ts";

const test = suite("network-validator");

async function run(...args: string[]): Promise<{ code: number; said: string }> {
  let said = "";
  const log = createLogger({
    write: (line) => {
      said += line;
    },
  });
  return { code: await main(args, log), said };
}

const serving = async (server: Server): Promise<number> => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
};

test("its own token by its own port is the proof", async () => {
  const port = await freePort();
  const { code, said } = await run(`--listen-addr=127.0.0.1:${port}`, `--connect-addr=127.0.0.1:${port}`);
  assert.is(code, 0);
  assert.match(said, "connections are redirected to the proxy");
});

for (const [what, answer, message] of [
  ["another answer", "hello\n", "something else answered"],
  ["a token that is not this one's", `${"ab".repeat(32)}\n`, "something else answered"],
  ["silence and an end", "", "something else answered"],
  ["silence", undefined, "no answer to the dial"],
] as const) {
  test(`${what} ends it with 95 and says what to look at`, async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      if (answer !== undefined) socket.end(answer);
    });
    const target = await serving(server);
    const { code, said } = await run(
      `--listen-addr=127.0.0.1:${await freePort()}`,
      `--connect-addr=127.0.0.1:${target}`,
      "--timeout=300ms",
    );
    server.close();
    assert.is(code, 95);
    assert.match(said, message);
    assert.match(said, "CNI plugin");
  });
}

test("a refusal at the address is no redirect", async () => {
  const { code, said } = await run(
    `--listen-addr=127.0.0.1:${await freePort()}`,
    `--connect-addr=127.0.0.1:${await freePort()}`,
  );
  assert.is(code, 95);
  assert.match(said, "ECONNREFUSED");
});

test("a port that is taken is told as such, not as a missing redirect", async () => {
  const server = createServer();
  const port = await serving(server);
  const { code, said } = await run(`--listen-addr=127.0.0.1:${port}`);
  server.close();
  assert.is(code, 1);
  assert.match(said, `cannot listen on 127.0.0.1:${port}`);
});

test("defaults are of the family that it listens on, and wrong flags are named", () => {
  assert.is(parseOptions([]).connect.text, "192.0.2.1:20001");
  assert.is(parseOptions(["--listen-addr=[::]:4140"]).connect.text, "192.0.2.1:20001");
  assert.is(parseOptions(["--listen-addr=[::1]:4140"]).connect.text, "[2001:db8::1]:20001");
  assert.is(parseOptions([]).timeout, 10_000);
  for (const [flag, message] of [
    ["--listen-addr=4140", /--listen-addr: expected address:port/],
    ["--connect-addr=example.com:1", /--connect-addr: /],
    ["--timeout=soon", /--timeout: expected a duration/],
    ["--log-level=loud", /--log-level: expected one of/],
    ["--nonsense", /nonsense/],
  ] as const)
    assert.throws(() => parseOptions([flag]), message);
});

test("wrong flags end it with 64", async () => {
  const write = process.stderr.write;
  let said = "";
  process.stderr.write = ((text: string) => {
    said += text;
    return true;
  }) as typeof write;
  try {
    assert.is(await main(["--timeout=soon"]), 64);
  } finally {
    process.stderr.write = write;
  }
  assert.match(said, "network-validator: --timeout");
});

test.run();
