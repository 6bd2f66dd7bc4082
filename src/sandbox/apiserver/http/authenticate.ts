// Who is asking: a client certificate, a ServiceAccount token, nobody; and whom they ask to be taken for.

import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import type { Authorizer } from "../auth/rbac.ts";
import type { TokenAuthority } from "../auth/tokens.ts";
import { ANONYMOUS, type User } from "../auth/user.ts";
import { badRequest, unauthorized } from "../status.ts";

/** A WebSocket client in a browser or in client-node may give its token as a subprotocol. */
const PROTOCOL_TOKEN = "base64url.bearer.authorization.k8s.io.";

/** Throws 401 for credentials that are no good; without any the user is anonymous. */
export function authenticate(request: IncomingMessage, tokens: TokenAuthority): User {
  const certificate = certificateUser(request);
  if (certificate) return certificate;
  const token = bearerToken(request);
  if (token === undefined) return ANONYMOUS;
  const verified = tokens.verify(token);
  if ("error" in verified) throw unauthorized();
  return verified.user;
}

function certificateUser(request: IncomingMessage): User | undefined {
  const { socket } = request;
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const subject = socket.getPeerCertificate()?.subject as
    | { CN?: string | string[]; O?: string | string[] }
    | undefined;
  const name = [subject?.CN ?? []].flat()[0];
  if (!name) return undefined;
  return { name, groups: [...[subject?.O ?? []].flat(), "system:authenticated"] };
}

function bearerToken(request: IncomingMessage): string | undefined {
  const header = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (header) return header.trim();
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((text) => text.trim());
  const hidden = offered.find((protocol) => protocol.startsWith(PROTOCOL_TOKEN));
  return hidden && Buffer.from(hidden.slice(PROTOCOL_TOKEN.length), "base64url").toString();
}

/** Applies Impersonate-* headers, each of which needs the right to impersonate. */
export function impersonate(request: IncomingMessage, user: User, authorizer: Authorizer): User {
  const { headers } = request;
  const name = headers["impersonate-user"] as string | undefined;
  const groups = listOf(request, "impersonate-group");
  const uid = headers["impersonate-uid"] as string | undefined;
  const extraHeaders = Object.keys(headers).filter((key) => key.startsWith("impersonate-extra-"));
  if (!name) {
    if (groups.length > 0 || uid || extraHeaders.length > 0) {
      throw badRequest("requested groups, uid or extra without impersonating a user");
    }
    return user;
  }
  const account = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(name);
  authorizer.require(
    user,
    account
      ? {
          verb: "impersonate",
          group: "",
          resource: "serviceaccounts",
          namespace: account[1],
          name: account[2],
        }
      : { verb: "impersonate", group: "", resource: "users", name },
  );
  for (const group of groups) {
    authorizer.require(user, { verb: "impersonate", group: "", resource: "groups", name: group });
  }
  if (uid) {
    authorizer.require(user, {
      verb: "impersonate",
      group: "authentication.k8s.io",
      resource: "uids",
      name: uid,
    });
  }
  const extra: Record<string, string[]> = {};
  for (const header of extraHeaders) {
    const key = decodeURIComponent(header.slice("impersonate-extra-".length));
    extra[key] = listOf(request, header);
    for (const value of extra[key]) {
      authorizer.require(user, {
        verb: "impersonate",
        group: "authentication.k8s.io",
        resource: "userextras",
        subresource: key,
        name: value,
      });
    }
  }
  const implied =
    account && groups.length === 0 ? ["system:serviceaccounts", `system:serviceaccounts:${account[1]}`] : [];
  const common = name === ANONYMOUS.name ? "system:unauthenticated" : "system:authenticated";
  return { name, uid, groups: [...new Set([...groups, ...implied, common])], extra };
}

/** Every value of a header that may be repeated; Node folds them with commas. */
function listOf(request: IncomingMessage, name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    if (request.rawHeaders[i]?.toLowerCase() === name) values.push(request.rawHeaders[i + 1] as string);
  }
  return values;
}
