// The proxy of the soak: the real one, that also gives memory back when it is told to (SIGUSR2), by what it does of
// itself when it rests. What is left then is what it needs, however busy it is: garbage, and free memory between what is
// in use, come and go by more than a leak brings in an hour.
//
//   SOAK_MEMORY=FILE node proxy.mjs
//
// Appends the megabytes that are left to FILE, a line each time, and once when it is ready to be told.
import { appendFileSync } from "node:fs";
import "../../src/entry/proxy.ts";
import { giveBack, processMemory } from "../../src/proxy/memory.ts";
import { systemClock } from "../../src/util/clock.ts";

const PAGE = 4_096;
const memory = await processMemory();
const tell = () =>
  appendFileSync(process.env["SOAK_MEMORY"]!, `${((memory.held() * PAGE) / 1_048_576).toFixed(3)}\n`);
process.on("SIGUSR2", () => giveBack(memory, systemClock, tell));
tell();
