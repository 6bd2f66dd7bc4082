// `top` on a terminal: the store, the keys and the view put together.
import { useApp, useInput, useStdout } from "ink";
import { useEffect, useState, useSyncExternalStore } from "react";
import { showFullScreen } from "./screen.ts";
import type { TopStore } from "./top-store.ts";
import { TopView, type TopViewProps } from "./top-view.tsx";

type Fixed = Pick<TopViewProps, "title" | "namespaces">;

/** Runs until the person quits. */
export async function showTop(store: TopStore, fixed: Fixed): Promise<void> {
  store.start();
  try {
    await showFullScreen(<TopScreen store={store} {...fixed} />);
  } finally {
    store.stop();
  }
}

function TopScreen({ store, ...fixed }: Fixed & { store: TopStore }) {
  const { exit } = useApp();
  const state = useSyncExternalStore(store.subscribe, store.snapshot);
  const { columns, rows } = useTerminalSize();
  useInput((input, key) => {
    if (state.typing) {
      if (key.escape) store.endTyping(false);
      else if (key.return) store.endTyping(true);
      else if (key.backspace || key.delete) store.setFilter(state.filter.slice(0, -1));
      else if (input !== "" && !key.ctrl && !key.meta) store.setFilter((state.filter + input).slice(0, 64));
      return;
    }
    if (input === "q") exit();
    else if (input === "s") store.nextSort();
    else if (input === "p") store.togglePause();
    else if (input === "/") store.startTyping();
    else if (key.escape) store.setFilter("");
    else if (key.upArrow || input === "k") store.move(-1);
    else if (key.downArrow || input === "j") store.move(1);
    else if (key.pageUp) store.move(-10);
    else if (key.pageDown) store.move(10);
  });
  // One line less than the terminal has: ink clears the whole screen at every frame that fills it.
  return <TopView state={state} columns={columns} rows={rows - 1} {...fixed} />;
}

interface Size {
  readonly columns: number;
  readonly rows: number;
}

const sizeOf = (stdout: NodeJS.WriteStream): Size => ({
  columns: stdout.columns ?? 80,
  rows: stdout.rows ?? 24,
});

function useTerminalSize(): Size {
  const { stdout } = useStdout();
  const [size, setSize] = useState(() => sizeOf(stdout));
  useEffect(() => {
    const resized = () => {
      // What was drawn for the old size would stay around the new picture.
      stdout.write("\x1b[2J\x1b[H");
      setSize(sizeOf(stdout));
    };
    stdout.on("resize", resized);
    return () => void stdout.off("resize", resized);
  }, [stdout]);
  return size;
}
