// The demo's services as HTTP servers.
import { connect } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { renderYaml } from "../../src/cli/output.ts";
import { startBot } from "../../src/demo/bot.ts";
import { EMOJI, startEmoji } from "../../src/demo/emoji.ts";
import { HttpClient, HttpError, type Running } from "../../src/demo/http.ts";
import { startService } from "../../src/demo/main.ts";
import { demoObjects } from "../../src/demo/manifest.ts";
import { startTally, TallyClient } from "../../src/demo/tally.ts";
import { startVoting } from "../../src/demo/voting.ts";
import { startWeb } from "../../src/demo/web.ts";
import { until } from "../support/until.ts";

const running: Running[] = [];
let client: HttpClient;
let url: string;

test.before(async () => {
  const tally = await startTally(0);
  const emoji = await startEmoji(0);
  const voting = await startVoting(0, `127.0.0.1:${tally.port}`);
  const web = await startWeb(0, {
    emoji: `http://127.0.0.1:${emoji.port}`,
    voting: `http://127.0.0.1:${voting.port}`,
  });
  running.push(web, voting, emoji, tally);
  url = `http://127.0.0.1:${web.port}`;
  client = new HttpClient(url);
});

test.after(async () => {
  client.close();
  for (const service of running) await service.close();
});

test("the page and the list of emoji are served", async () => {
  assert.match(String(await client.call("GET", "/")), "<h1>Vote for your emoji</h1>");
  assert.equal(await client.call("GET", "/api/list"), EMOJI);
});

test("a vote counts and shows on the leaderboard", async () => {
  assert.equal(await client.call("POST", "/api/vote?choice=otter"), { name: "otter", votes: 1 });
  assert.equal(await client.call("POST", "/api/vote?choice=otter"), { name: "otter", votes: 2 });
  assert.equal(await client.call("GET", "/api/leaderboard"), [{ name: "otter", votes: 2 }]);
});

test("a vote for the doughnut fails with 500, an unknown emoji with 404", async () => {
  for (const [choice, status] of [
    ["doughnut", 500],
    ["nothing", 404],
  ] as const) {
    const error: unknown = await client.call("POST", `/api/vote?choice=${choice}`).catch((e) => e);
    assert.instance(error, HttpError);
    assert.is((error as HttpError).status, status);
  }
});

test("the bot votes, and some of its votes fail", async () => {
  const bot = startBot({ web: url, rate: 500 });
  await until(() => bot.failures > 0 && bot.votes > 20);
  bot.stop();
  assert.ok(bot.failures < bot.votes);
});

test("tally refuses what it does not know and stays up", async () => {
  const port = running.at(-1)!.port;
  const socket = connect(port, "127.0.0.1");
  let text = "";
  socket.on("data", (chunk) => (text += chunk));
  socket.write("GET / HTTP/1.1\r\n\r\n");
  await new Promise((resolve) => socket.on("close", resolve));
  assert.match(text, "error expected tally/1");
  const store = new TallyClient(`127.0.0.1:${port}`, "test");
  const refused = await store.increment("NOT A KEY").catch((error) => error);
  assert.match(refused.message, "a key is");
  assert.is(await store.increment("fine"), 1);
  store.close();
});

test("a call to a store that is not there is an error, and the next one tries again", async () => {
  const gone = await startTally(0);
  await gone.close();
  const store = new TallyClient(`127.0.0.1:${gone.port}`, "test");
  assert.match((await store.increment("a").catch((e) => e)).message, /ECONNREFUSED/);
  const back = await startTally(gone.port);
  assert.is(await store.increment("a"), 1);
  store.close();
  await back.close();
});

test("services are started by name", async () => {
  const service = await startService("emoji", { PORT: "0" });
  assert.ok(service.port! > 0);
  await service.close();
  assert.match((await startService("nope", {}).catch((e) => e)).message, 'got "nope"');
});

test("the manifest has five workloads of their own identity, four Services, and no word of a mesh", async () => {
  const objects = demoObjects({ image: "kubectl-mesh:1.2.3" });
  const kinds = (kind: string) => objects.filter((object) => object["kind"] === kind).length;
  assert.equal(
    [kinds("Namespace"), kinds("Deployment"), kinds("ServiceAccount"), kinds("Service")],
    [1, 5, 5, 4],
  );
  const text = await renderYaml(...objects);
  assert.not.match(text.replaceAll("kubectl-mesh:1.2.3", ""), /mesh|linkerd/);
});

test.run();
