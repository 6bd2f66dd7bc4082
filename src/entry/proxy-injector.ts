// The webhook that meshes pods at their birth.
import { main } from "../controller/proxy-injector/main.ts";

await main();
