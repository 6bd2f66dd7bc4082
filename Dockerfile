# One image, many entry points: proxy, proxy-init, each controller and the CLI (dist/entry/*.js, bin/run.js).
#   docker build -t kubectl-mesh:$(node -p 'require("./package.json").version') .
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN npm run build && npm prune --omit=dev

FROM node:24-slim
# proxy-init needs iptables, and whoever debugs a pod tcpdump; everything else needs Node alone.
RUN apt-get update \
  && apt-get install -y --no-install-recommends iptables tcpdump \
  && rm -rf /var/lib/apt/lists/* /usr/local/lib/node_modules /opt/yarn*
WORKDIR /app
COPY --from=build /app/package.json /app/LICENSE /app/oclif.manifest.json ./
COPY --from=build /app/bin bin
COPY --from=build /app/dist dist
COPY --from=build /app/node_modules node_modules
USER 2103:2103
ENTRYPOINT ["node"]
CMD ["/app/bin/run.js", "--help"]
