// Waits for content, with a deadline: tests never sleep for a fixed time.

/**
 * Resolves once `condition` is truthy, with its value.
 * @param what told when it is not; a function sees how things stand by then
 * @throws when it is not within `timeout` ms
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  timeout = 10_000,
  what: string | (() => string) = "condition",
): Promise<NonNullable<T>> {
  const deadline = performance.now() + timeout;
  for (;;) {
    const value = await condition();
    if (value) return value as NonNullable<T>;
    if (performance.now() > deadline)
      throw new Error(`${typeof what === "string" ? what : what()} was not met within ${timeout} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
