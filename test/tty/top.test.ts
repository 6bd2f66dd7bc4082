// `kubectl mesh top` in a real terminal.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { hasTmux, openTerminal, type Terminal } from "./terminal.ts";

const test = suite<{ terminal: Terminal }>("top in a terminal");
const COMMAND = "node --import tsx test/tty/top-app.tsx";

test.after.each(({ terminal }) => terminal.close());

for (const [columns, rows] of [
  [80, 24],
  [120, 40],
] as const) {
  test(`${columns}x${rows}: shows live rows, takes keys, gives the screen back`, async (context) => {
    const terminal = await openTerminal(COMMAND, columns, rows);
    context.terminal = terminal;
    const first = await terminal.shows("TRAFFIC OF web");
    assert.match(first, "kubectl mesh top  deploy in demo  3 shown");
    assert.match(first, /▸ web +1\/1/);
    assert.match(first, "q quit");
    const number = (screen: string) => Number(/▸ web +\S+ +\S+ +([\d.]+)/.exec(screen)?.[1]);
    const start = number(first);
    // The picture moves by itself.
    await terminal.shows(new RegExp(`▸ web +\\S+ +\\S+ +(?!${start.toFixed(1)})`));
    const moved = await terminal.screen();
    assert.is(moved.split("kubectl mesh top  ").length, 2, `drawn over itself:\n${moved}`);
    assert.not.match(moved, "waiting for the first numbers");
    assert.match(moved.split("\n")[0]!, "kubectl mesh top");
    await terminal.press("Down");
    await terminal.shows("TRAFFIC OF voting");
    await terminal.press("s");
    await terminal.shows("SUCCESS▾");
    await terminal.press("/");
    await terminal.press("emo");
    await terminal.shows("/emo█");
    const filtered = await terminal.shows("1 shown");
    assert.not.match(filtered, /voting +1\/1/);
    await terminal.press("Escape");
    await terminal.shows("3 shown");
    await terminal.press("p");
    await terminal.shows("paused");
    await terminal.press("q");
    const after = await terminal.shows("back on the own screen");
    assert.not.match(after, "TRAFFIC OF");
    assert.match(after, "top-app.tsx");
  });
}

test("Ctrl-C gives the screen back too", async (context) => {
  context.terminal = await openTerminal(COMMAND, 80, 24);
  await context.terminal.shows("TRAFFIC OF web");
  await context.terminal.press("C-c");
  assert.not.match(await context.terminal.shows("back on the own screen"), "TRAFFIC OF");
});

test("survives a change of size, however small", async (context) => {
  context.terminal = await openTerminal(COMMAND, 120, 40);
  await context.terminal.shows("TRAFFIC OF web");
  await context.terminal.resize(60, 12);
  const small = await context.terminal.shows(/^.*q quit/m);
  assert.match(small, "kubectl mesh top");
  await context.terminal.resize(100, 30);
  await context.terminal.shows("TRAFFIC OF web");
  await context.terminal.press("q");
  await context.terminal.shows("back on the own screen");
});

if (hasTmux()) test.run();
