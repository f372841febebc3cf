// A certified OpenID provider on loopback: node identity_provider.mjs PORT. Says `up` once it listens.
// Machines get access tokens for themselves; people sign in on its pages with any password. What both are entitled to
// stands in the claim `groups`. Each line on standard input is obeyed and answered with one line:
//   rotate          the first signing key is replaced by a new one
//   reads           how often the keys were read so far
//   groups SUB A,B  what SUB is entitled to from now on
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

// Standard output is for answers.
console.info = console.warn = console.error;
const issuer = `http://127.0.0.1:${process.argv[2]}`;
const secret = "a-secret-of-the-tests-that-is-long-enough";
const groups = { admin: ["gateway-admins", "everybody"], reader: ["everybody"], ada: ["gateway-admins"] };
const key = (type, options, use) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }),
  ...use,
});
const rsa = (kid) => key("rsa", { modulusLength: 2048 }, { kid, use: "sig", alg: "RS256" });
const second = key("ec", { namedCurve: "P-256" }, { kid: "second", use: "sig", alg: "ES256" });
const device = "urn:ietf:params:oauth:grant-type:device_code";

const configuration = (first) => ({
  clients: [
    ...["admin", "reader", "ci"].map((name) => ({
      client_id: name,
      client_secret: secret,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    })),
    {
      client_id: "tokendance-cli",
      application_type: "native",
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code", "refresh_token", device],
      redirect_uris: ["http://127.0.0.1/callback"],
      response_types: ["code"],
    },
    {
      client_id: "tokendance-console",
      client_secret: secret,
      application_type: "native",
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: ["http://127.0.0.1/console/callback"],
      response_types: ["code"],
    },
  ],
  jwks: { keys: [first, second] },
  cookies: { keys: ["tests"] },
  scopes: ["openid", "offline_access", "email", "gateway"],
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, email: `${sub}@example.com`, email_verified: true }),
  }),
  extraTokenClaims: (_, token) =>
    token.accountId
      ? { groups: groups[token.accountId], email: `${token.accountId}@example.com`, email_verified: true }
      : { groups: groups[token.clientId] },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: "gateway",
        audience: resource,
        accessTokenFormat: resource.endsWith("opaque") ? "opaque" : "jwt",
        // Access tokens of people end soon, so that the tests see them renewed.
        accessTokenTTL: resource.endsWith("short") ? 5 : 300,
      }),
      useGrantedResource: () => true,
    },
  },
});

// Sessions and grants are kept beside the provider, so a new one with another key takes over the old one's people.
const serve = (kid) => {
  const provider = new Provider(issuer, configuration(rsa(kid)));
  provider.use(async (context, next) => {
    await next();
    // Without it a program waits for five seconds before it asks whether somebody has signed in.
    if (context.oidc?.route === "device_authorization") context.body.interval = 0.2;
  });
  return provider.callback();
};
let reads = 0;
let keys = 1;
let current = serve("first");
const server = createServer((request, response) => {
  reads += request.url === "/jwks" ? 1 : 0;
  current(request, response);
});
server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("up"));
createInterface({ input: process.stdin }).on("line", (line) => {
  const [order, subject, names] = line.split(" ");
  if (order === "rotate") {
    keys += 1;
    current = serve(`first-${keys}`);
  } else if (order === "groups") {
    groups[subject] = names ? names.split(",") : [];
  }
  console.log(order === "reads" ? String(reads) : "done");
});
