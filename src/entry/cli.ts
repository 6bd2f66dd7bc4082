// The command line, as bin/run.js loads it.
export { main } from "../cli/main.ts";
