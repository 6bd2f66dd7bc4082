// What a simulation is mostly about. What happens, and what users write, is chosen from all there is; what belongs to the
// theme comes more often, and the cluster begins with some of it: rare things seldom meet where everything is rare.
export const THEMES = [
  "everything",
  "addresses",
  "authorization",
  "traffic",
  "leaders",
  "certificates",
] as const;
export type Theme = (typeof THEMES)[number];

/** Seeds take turns. */
export const themeOf = (seed: number): Theme => THEMES[seed % THEMES.length]!;

/** The first seeds of a theme. */
export const seedsOf = (theme: Theme, count: number): number[] =>
  Array.from({ length: count }, (_, at) => THEMES.indexOf(theme) + at * THEMES.length);
