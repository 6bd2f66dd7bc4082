// The controller that signs the proxies' certificates.
import { main } from "../controller/identity/main.ts";

await main();
