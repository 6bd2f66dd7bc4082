// `top` with made-up numbers, for the terminal tests.
import { showTop } from "../../src/tui/top-screen.tsx";
import { TopStore } from "../../src/tui/top-store.ts";
import { systemClock } from "../../src/util/clock.ts";
import { edgeRow, statRow } from "../tui/rows.ts";

let asked = 0;
const store = new TopStore({
  ask: async () => {
    asked += 1;
    return {
      rows: [statRow("web", 20 + asked), statRow("voting", 12, 0.85), statRow("emoji", 10)],
      edges: [edgeRow("web", "voting", 12), edgeRow("web", "emoji", 30)],
    };
  },
  clock: systemClock,
  interval: 200,
});
await showTop(store, { title: "deploy in demo", namespaces: false });
process.stdout.write("back on the own screen\n");
process.exit(0);
