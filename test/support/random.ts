// Noise for tests of what is made of measurements.

/** Standard normal, from what is uniform in [0, 1) (Box and Muller). */
export const normal = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
