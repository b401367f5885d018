/** A host in memory: links, commands and kernel settings, as far as the gateway uses them. */
import type { HostRoute, Link, Links, VethRequest } from '../../datapath/link.ts'
import type { CommandResult, Run, Settings } from '../../gateway/host.ts'

export class FakeHost {
  readonly #links = new Map<string, Link>()
  readonly #addresses: { readonly interface: string; readonly cidr: string }[] = []
  #routes: HostRoute[] = []
  #nextIndex = 1
  /** What nft holds: the table's text as loaded. */
  table = ''
  /** Rules of iptables by their text, in order. */
  rules: string[] = []
  filter: readonly string[] = ['-P FORWARD ACCEPT']
  readonly kernel = new Map<string, string>([['net/ipv4/ip_forward', '0']])
  /** Commands that this host does not have. */
  readonly missing = new Set<string>()
  readonly commands: string[] = []

  readonly links: Links = {
    list: () => [...this.#links.values()],
    find: (name) => this.#links.get(name),
    createVeth: (request) => this.#createVeth(request),
    remove: (name) => this.#remove(name),
    setUp: (name) => this.#change(name, { up: true }),
    setDown: (name) => this.#change(name, { up: false }),
    setMtu: (name, mtu) => this.#change(name, { mtu }),
    addAddress: (name, cidr) => {
      this.#addresses.push({ interface: name, cidr })
    },
    addresses: () => this.#addresses.filter(({ cidr }) => !cidr.includes(':')),
    addresses6: () => this.#addresses.filter(({ cidr }) => cidr.includes(':')),
    setRoute: (route) => {
      this.#routes = [...this.#routes.filter(({ dst }) => dst !== route.dst), route]
    },
    removeRoute: (route) => {
      this.#routes = this.#routes.filter(({ dst }) => dst !== route.dst)
    },
    routes: () => this.#routes,
  }

  readonly settings: Settings = {
    read: (path) => this.kernel.get(path),
    write: (path, value) => void this.kernel.set(path, value),
  }

  readonly run: Run = async (command, args, input) => {
    this.commands.push([command, ...args].join(' '))
    if (this.missing.has(command)) return { code: undefined, stdout: '', stderr: '' }
    return command === 'nft' ? this.#nft(args, input ?? '') : this.#iptables(args)
  }

  addLink(name: string, kind: string | undefined): void {
    const base = { mac: '02:00:00:00:00:01', mtu: 1500, up: true, peerElsewhere: false }
    this.#links.set(name, { ...base, index: this.#nextIndex++, name, kind, peerIndex: undefined })
  }

  #createVeth({ name, peerName, mac, peerMac, mtu }: VethRequest): void {
    const index = this.#nextIndex
    this.#nextIndex += 2
    const base = { kind: 'veth', mtu, peerElsewhere: false }
    const own = mac ?? '02:00:00:00:00:02'
    const other = peerMac ?? '02:00:00:00:00:03'
    this.#links.set(name, { ...base, name, index, peerIndex: index + 1, up: true, mac: own })
    this.#links.set(peerName, {
      ...base,
      name: peerName,
      index: index + 1,
      peerIndex: index,
      up: false,
      mac: other,
    })
  }

  #remove(name: string): void {
    const link = this.#links.get(name)
    if (link === undefined) return
    for (const other of [...this.#links.values()])
      if (other.name === name || other.index === link.peerIndex) this.#drop(other.name)
  }

  #drop(name: string): void {
    this.#links.delete(name)
    this.#routes = this.#routes.filter((route) => route.interface !== name)
    for (let at = this.#addresses.length - 1; at >= 0; at--)
      if (this.#addresses[at]?.interface === name) this.#addresses.splice(at, 1)
  }

  #change(name: string, change: Partial<Link>): void {
    const link = this.#links.get(name)
    if (link !== undefined) this.#links.set(name, { ...link, ...change })
  }

  #nft(args: readonly string[], input: string): CommandResult {
    if (args.includes('-f')) this.table = input.replace(/^(add|delete) table.*\n/gm, '')
    if (!args.includes('list')) return { code: 0, stdout: '', stderr: '' }
    if (this.table === '')
      return { code: 1, stdout: '', stderr: 'Error: No such file or directory' }
    return { code: 0, stdout: this.table, stderr: '' }
  }

  #iptables(args: readonly string[]): CommandResult {
    const [, , verb, chain, ...rest] = args
    if (verb === '-P') this.filter = this.filter.map((line) => line.replace('ACCEPT', 'DROP'))
    if (verb === '-I') this.rules.unshift(`-A ${chain} ${rest.slice(1).join(' ')}`)
    if (verb === '-D') {
      const gone = `-A ${chain} ${rest.join(' ')}`
      this.rules = this.rules.filter((rule) => rule !== gone)
    }
    return { code: 0, stdout: [...this.filter, ...this.rules, ''].join('\n'), stderr: '' }
  }
}
