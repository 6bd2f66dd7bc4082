// Completion, as bin/complete.js loads it.
export { completionLines } from "../cli/completion-main.ts";
