// The voting back end: counts votes in the tally store. Votes for the doughnut always fail, on purpose, so that
// the mesh has something to show.
import { type Answer, type Running, serveHttp } from "./http.ts";
import { TallyClient } from "./tally.ts";

/** The emoji whose votes fail. */
export const BROKEN = "doughnut";
/** Standings in the leaderboard. */
const PLACES = 10;

/** @param tally `host:port` of the store. */
export async function startVoting(port: number, tally: string): Promise<Running> {
  const store = new TallyClient(tally, "voting");
  const running = await serveHttp(port, async (method, url): Promise<Answer> => {
    if (method === "GET" && url.pathname === "/leaderboard") {
      const counts = Object.entries(await store.all());
      const top = counts.sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).slice(0, PLACES);
      return { status: 200, body: top.map(([name, votes]) => ({ name, votes })) };
    }
    const name = /^\/vote\/([a-z0-9-]{1,64})$/.exec(url.pathname)?.[1];
    if (method !== "POST" || name === undefined) return { status: 404, body: { error: "no such page" } };
    if (name === BROKEN) return { status: 500, body: { error: `votes for ${BROKEN} are out of order` } };
    return { status: 200, body: { name, votes: await store.increment(name) } };
  });
  return {
    port: running.port,
    close: async () => {
      await running.close();
      store.close();
    },
  };
}
