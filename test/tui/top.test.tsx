// The screen of `top`: its store, and frames of it.
import chalk from "chalk";
import { renderToString } from "ink";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { displayWidth } from "../../src/cli/output.ts";
import { sparkline } from "../../src/tui/sparkline.ts";
import { shownRows, TopStore } from "../../src/tui/top-store.ts";
import { TopView } from "../../src/tui/top-view.tsx";
import type { Clock } from "../../src/util/clock.ts";
import { until } from "../support/until.ts";
import { edgeRow, statRow } from "./rows.ts";

const test = suite("top");
chalk.level = 0;

/** A clock that runs timers when told. */
function manualClock(): Clock & { tick(): void } {
  let due: (() => void) | undefined;
  return {
    now: () => 0,
    monotonic: () => 0,
    random: () => 0,
    after: (_ms, fn) => {
      due = fn;
      return { id: 1 };
    },
    clear: () => {
      due = undefined;
    },
    tick: () => {
      const fn = due;
      due = undefined;
      fn?.();
    },
  };
}

const rows = [statRow("web", 20), statRow("voting", 12, 0.85), statRow("emoji", 30), statRow("tally", null)];
const edges = [edgeRow("web", "voting", 12), edgeRow("web", "emoji", 30), edgeRow("voting", "tally", 1)];

async function loadedStore(ask = async () => ({ rows, edges })) {
  const clock = manualClock();
  const store = new TopStore({ ask, clock, interval: 1_000 });
  store.start();
  await until(() => store.snapshot().loaded);
  return { store, clock };
}

const names = (store: TopStore) => shownRows(store.snapshot()).map((row) => row.name);

test("rows are sorted by rate, then by what the person chooses; the worst success first", async () => {
  const { store } = await loadedStore();
  assert.equal(names(store), ["emoji", "web", "voting", "tally"]);
  store.nextSort();
  assert.is(store.snapshot().sort, "success");
  assert.is(names(store)[0], "voting");
  for (let i = 0; i < 3; i += 1) store.nextSort();
  assert.equal(names(store), ["emoji", "tally", "voting", "web"]);
  store.stop();
});

test("a filter narrows the rows and the selection follows what is shown", async () => {
  const { store } = await loadedStore();
  store.move(1);
  assert.is(store.snapshot().selected, "demo/web");
  store.setFilter("VOT");
  assert.equal(names(store), ["voting"]);
  assert.is(store.snapshot().selected, "demo/voting");
  store.endTyping(false);
  assert.is(names(store).length, 4);
  store.move(-100);
  assert.is(store.snapshot().selected, "demo/emoji");
  store.stop();
});

test("a pause keeps the picture; an error keeps the last good rows and says what is wrong", async () => {
  let asked = 0;
  let broken = false;
  const { store, clock } = await loadedStore(async () => {
    asked += 1;
    if (broken) throw new Error("connection lost");
    return { rows, edges };
  });
  store.togglePause();
  clock.tick();
  await Promise.resolve();
  assert.is(asked, 1);
  store.togglePause();
  broken = true;
  clock.tick();
  await until(() => store.snapshot().error);
  assert.is(store.snapshot().error, "connection lost");
  assert.is(names(store).length, 4);
  broken = false;
  clock.tick();
  await until(() => store.snapshot().error === undefined);
  assert.equal(store.snapshot().history.get("demo/web"), [20, 20]);
  store.stop();
});

test("a sparkline ends with the newest value, scaled to the largest", () => {
  assert.is(sparkline([0, 1, 2, 4, 8], 5), "▁▁▂▄█");
  assert.is(sparkline([1], 4), "   █");
  assert.is(sparkline([0, 0], 2), "▁▁");
  assert.is(sparkline([], 3), "   ");
});

for (const [columns, height] of [
  [80, 23],
  [120, 39],
  [60, 10],
] as const) {
  test(`fits ${columns} columns and ${height} lines`, async () => {
    const { store } = await loadedStore();
    store.move(1);
    const text = renderToString(
      <TopView
        state={store.snapshot()}
        columns={columns}
        rows={height}
        title="deploy in demo"
        namespaces={false}
      />,
      { columns },
    );
    store.stop();
    const lines = text.split("\n");
    assert.ok(lines.length <= height, `${lines.length} lines`);
    for (const line of lines) assert.ok(displayWidth(line) <= columns, line);
    assert.match(lines[0]!, "kubectl mesh top  deploy in demo  4 shown");
    assert.match(text, /▸ web +1\/1 +100\.00% +20\.0 +10ms +20ms +40ms +7/);
    if (columns >= 80) {
      assert.match(text, /TRAFFIC OF web\n +web → emoji +mTLS +100\.00%/);
      assert.match(text, /voting +1\/1 +85\.00% +12\.0/);
    }
    assert.match(lines.at(-1)!, "q quit");
  });
}

test("more rows than lines: the selected one stays in sight", async () => {
  const many = Array.from({ length: 100 }, (_, i) => statRow(`app-${i}`, 100 - i));
  const { store } = await loadedStore(async () => ({ rows: many, edges: [] }));
  store.move(70);
  const text = renderToString(
    <TopView state={store.snapshot()} columns={80} rows={23} title="t" namespaces={true} />,
    { columns: 80 },
  );
  store.stop();
  assert.match(text, "▸ demo/app-70");
  assert.ok(text.split("\n").length <= 23);
});

test("before the first answer, and with nothing to show, it says so", async () => {
  const view = (state: ReturnType<TopStore["snapshot"]>) =>
    renderToString(<TopView state={state} columns={80} rows={23} title="t" namespaces={false} />, {
      columns: 80,
    });
  const waiting = new TopStore({ ask: () => new Promise(() => {}), clock: manualClock(), interval: 1 });
  assert.match(view(waiting.snapshot()), "waiting for the first numbers");
  const { store } = await loadedStore();
  store.setFilter("zzz");
  assert.match(view(store.snapshot()), 'nothing matches "zzz"');
  store.stop();
});

test.run();
