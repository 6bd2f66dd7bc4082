// The emoji back end: knows which emoji one can vote for.
import { type Handler, type Running, serveHttp } from "./http.ts";

export interface Emoji {
  readonly name: string;
  readonly glyph: string;
}

export const EMOJI: readonly Emoji[] = [
  ["doughnut", "🍩"],
  ["taco", "🌮"],
  ["pizza", "🍕"],
  ["sushi", "🍣"],
  ["avocado", "🥑"],
  ["peach", "🍑"],
  ["cactus", "🌵"],
  ["sunflower", "🌻"],
  ["rocket", "🚀"],
  ["balloon", "🎈"],
  ["guitar", "🎸"],
  ["robot", "🤖"],
  ["unicorn", "🦄"],
  ["otter", "🦦"],
  ["penguin", "🐧"],
  ["octopus", "🐙"],
].map(([name, glyph]) => ({ name: name!, glyph: glyph! }));

const handle: Handler = (method, url) => {
  if (method !== "GET") return { status: 405, body: { error: "only GET" } };
  if (url.pathname === "/emoji") return { status: 200, body: EMOJI };
  const found = EMOJI.find((emoji) => url.pathname === `/emoji/${emoji.name}`);
  return found ? { status: 200, body: found } : { status: 404, body: { error: "no such emoji" } };
};

export function startEmoji(port: number): Promise<Running> {
  return serveHttp(port, handle);
}
