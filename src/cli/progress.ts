// A spinner on a terminal; nothing elsewhere, so that logs and pipes stay clean.
import { createStyle } from "./style.ts";

export interface Progress {
  update(text: string): void;
  /** Removes the line. */
  stop(): void;
}

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const FRAME_MS = 80;

interface ProgressStream {
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  write(text: string): unknown;
}

/** Shows `text` with a spinner on stderr until stopped. */
export function startProgress(text: string, stream: ProgressStream = process.stderr): Progress {
  if (!stream.isTTY || process.env["TERM"] === "dumb") return { update: () => {}, stop: () => {} };
  const style = createStyle(stream);
  let current = text;
  let frame = 0;
  const draw = () => {
    frame = (frame + 1) % FRAMES.length;
    const room = (stream.columns ?? 80) - 3;
    stream.write(`\r\x1b[K${style.literal(FRAMES[frame]!)} ${current.slice(0, room)}`);
  };
  draw();
  const timer = setInterval(draw, FRAME_MS);
  return {
    update: (next) => {
      current = next;
    },
    stop: () => {
      clearInterval(timer);
      stream.write("\r\x1b[K");
    },
  };
}
