// The web front end: one page and a small API in front of the two back ends.
import { type Answer, HttpClient, HttpError, type Running, serveHttp } from "./http.ts";

export interface Backends {
  /** Base URL of the emoji service. */
  readonly emoji: string;
  /** Base URL of the voting service. */
  readonly voting: string;
}

export async function startWeb(port: number, backends: Backends): Promise<Running> {
  const emoji = new HttpClient(backends.emoji);
  const voting = new HttpClient(backends.voting);
  const running = await serveHttp(port, async (method, url): Promise<Answer> => {
    try {
      if (url.pathname === "/") return { status: 200, type: "text/html; charset=utf-8", body: PAGE };
      if (url.pathname === "/api/list") return { status: 200, body: await emoji.call("GET", "/emoji") };
      if (url.pathname === "/api/leaderboard") {
        return { status: 200, body: await voting.call("GET", "/leaderboard") };
      }
      const choice = url.pathname === "/api/vote" ? (url.searchParams.get("choice") ?? "") : undefined;
      if (choice === undefined) return { status: 404, body: { error: "no such page" } };
      if (method !== "POST") return { status: 405, body: { error: "vote with POST" } };
      const name = encodeURIComponent(choice);
      await emoji.call("GET", `/emoji/${name}`);
      return { status: 200, body: await voting.call("POST", `/vote/${name}`) };
    } catch (error) {
      // A back end's own answer goes on to the caller; one that did not answer is a bad gateway.
      const status = error instanceof HttpError ? error.status : 502;
      return { status, body: { error: (error as Error).message } };
    }
  });
  return {
    port: running.port,
    close: async () => {
      await running.close();
      emoji.close();
      voting.close();
    },
  };
}

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Emoji vote</title>
<style>
  body { font: 18px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
  #emoji { display: grid; grid-template-columns: repeat(auto-fill, minmax(4.5rem, 1fr)); gap: .5rem; }
  button { font-size: 2rem; padding: .4rem; border: 1px solid #ccc; border-radius: .6rem; background: none; cursor: pointer; }
  #message { min-height: 1.5em; }
  .bad { color: #b00020; }
</style>
<h1>Vote for your emoji</h1>
<div id="emoji"></div>
<p id="message" role="status"></p>
<h2>Leaderboard</h2>
<ol id="board"></ol>
<script type="module">
  const $ = (id) => document.getElementById(id);
  const list = await (await fetch("/api/list")).json();
  const glyph = Object.fromEntries(list.map((e) => [e.name, e.glyph]));
  for (const e of list) {
    const button = document.createElement("button");
    button.textContent = e.glyph;
    button.title = e.name;
    button.onclick = async () => {
      const r = await fetch("/api/vote?choice=" + e.name, { method: "POST" });
      $("message").className = r.ok ? "" : "bad";
      $("message").textContent = r.ok ? "Thank you for voting " + e.glyph : "Error " + r.status + ": no vote for " + e.glyph;
      board();
    };
    $("emoji").append(button);
  }
  async function board() {
    const r = await fetch("/api/leaderboard");
    if (!r.ok) return;
    $("board").replaceChildren(...(await r.json()).map((row) => {
      const item = document.createElement("li");
      item.textContent = glyph[row.name] + " " + row.votes;
      return item;
    }));
  }
  board();
  setInterval(board, 3000);
</script>
</html>
`;
