// An identity service for tests of proxies: a root that can be replaced, leaves on request, mesh TLS in front.
import { X509Certificate } from "node:crypto";
import { type AddressInfo, connect, type Socket } from "node:net";
import { createServer, type Server } from "node:tls";
import type { MessageOf } from "../../src/api/codec.ts";
import { Certify, type CertifyRequest, type CertifyResponse } from "../../src/api/identity.ts";
import { timestampOf } from "../../src/api/time.ts";
import { GrpcServer } from "../../src/controller/grpc-server.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import {
  createIssuer,
  createRoot,
  generateKey,
  issueLeaf,
  parseCsr,
  privateKeyPem,
  spkiOf,
} from "../../src/pki/index.ts";

const HOUR = 3_600_000;

/** A root with its issuer. */
export class Authority {
  readonly root: { pem: string };
  readonly issuerDer: Buffer;
  readonly #issuer;
  readonly #issuerPem: string;

  constructor(name = "root.test") {
    const now = Date.now();
    const root = createRoot({ commonName: name, lifetimeMs: 24 * HOUR, now });
    const issuer = createIssuer({
      commonName: `identity.${name}`,
      root: { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey },
      lifetimeMs: 24 * HOUR,
      now,
    });
    this.root = root;
    this.issuerDer = issuer.der;
    this.#issuerPem = issuer.pem;
    this.#issuer = { certificate: new X509Certificate(issuer.der), privateKey: issuer.key.privateKey };
  }

  leaf(spki: Buffer, dnsName: string, lifetimeMs = HOUR): { der: Buffer; pem: string; notAfter: number } {
    return issueLeaf({ issuer: this.#issuer, spki, dnsName, lifetimeMs, skewMs: 20_000, now: Date.now() });
  }

  /** PEM of a key and of its chain for `name`. */
  keyPair(name: string): { key: string; cert: string } {
    const key = generateKey();
    const { pem } = this.leaf(spkiOf(key.publicKey), name);
    return { key: privateKeyPem(key.privateKey), cert: `${pem}${this.#issuerPem}` };
  }
}

export interface Certified {
  readonly token: string;
  readonly identity: string;
  readonly spki: Buffer;
}

/** Answers Certify over mesh TLS as `name`. */
export class IdentityService {
  readonly asked: Certified[] = [];
  /** What the client showed at each connection: none, for this service. */
  readonly clients: (string | undefined)[] = [];
  /** Replace to misbehave. */
  answer: (request: MessageOf<typeof CertifyRequest>) => Partial<MessageOf<typeof CertifyResponse>>;
  /** What `answer` is at first. */
  readonly honest: IdentityService["answer"];
  readonly grpc: GrpcServer;
  readonly #tls: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(authority: Authority, name: string, lifetime: number) {
    this.grpc = new GrpcServer({ log: createLogger({ level: "off" }), registry: new Registry() });
    this.honest = (request) => {
      const { spki } = parseCsr(request.certificateSigningRequest);
      const leaf = authority.leaf(spki, request.identity, lifetime);
      return {
        leafCertificate: leaf.der,
        intermediateCertificates: [authority.issuerDer],
        validUntil: timestampOf(leaf.notAfter),
      };
    };
    this.answer = this.honest;
    this.grpc.unary(Certify, async (request) => {
      this.asked.push({
        token: request.token.toString(),
        identity: request.identity,
        spki: parseCsr(request.certificateSigningRequest).spki,
      });
      return this.answer(request) as MessageOf<typeof CertifyResponse>;
    });
    this.#tls = createServer(
      {
        ...authority.keyPair(name),
        ca: authority.root.pem,
        minVersion: "TLSv1.3",
        requestCert: true,
        rejectUnauthorized: false,
      },
      (socket) => {
        this.clients.push(socket.getPeerX509Certificate()?.subjectAltName);
        const inner = connect(this.#inner, "127.0.0.1");
        socket.pipe(inner).pipe(socket);
        for (const one of [socket, inner]) {
          this.#sockets.add(one);
          one.on("error", () => {});
          one.on("close", () => {
            socket.destroy();
            inner.destroy();
          });
        }
      },
    );
  }

  #inner = 0;
  port = 0;

  static async start(authority: Authority, name: string, lifetime = HOUR): Promise<IdentityService> {
    const service = new IdentityService(authority, name, lifetime);
    service.#inner = await service.grpc.listen(0, "127.0.0.1");
    await new Promise<void>((resolve) => service.#tls.listen(0, "127.0.0.1", resolve));
    service.port = (service.#tls.address() as AddressInfo).port;
    return service;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#tls.close(() => resolve()));
    await this.grpc.close();
  }
}
