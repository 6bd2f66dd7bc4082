// How long the proxy bears with clients that are slow, whichever version of HTTP they speak.

/** A head that was begun must be finished within this, ms: slow senders must not hold connections. */
export const HEAD_TIMEOUT = 30_000;
/** A request body that has stopped coming, while there is no answer yet, is given up after this, ms. */
export const BODY_TIMEOUT = 300_000;
/** A client that takes nothing of its response for this long, ms, is given up: slow readers hold memory. */
export const STALL_TIMEOUT = 60_000;
/** A request is tried at so many places before the proxy gives up. */
export const ATTEMPT_LIMIT = 5;
