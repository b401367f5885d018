/** The address groups of a packet's source or destination, looked up once. */
import type { Membership, Memberships } from './policy.ts'
import { type Simulation, word } from './simulation.ts'
import { memberTag } from './tag.ts'

const ethertypeIpv6 = 0x86dd

export class CachedMembership {
  readonly #at: 10 | 14
  #address = -1
  #membership: Membership | undefined

  /** `at`: where the address stands in a flow key. */
  constructor(at: 10 | 14) {
    this.#at = at
  }

  clear(): void {
    this.#address = -1
  }

  find(sim: Simulation, memberships: Memberships | undefined): ReadonlySet<string> | undefined {
    if (sim.work[8] === ethertypeIpv6) return this.#find6(sim, memberships)
    const at = this.#at
    if (at === 10) sim.seeIpSrc(32)
    else sim.seeIpDst(32)
    const address = word(sim.work, at)
    if (address !== this.#address) {
      this.#address = address
      this.#membership = memberships?.find(address)
      sim.tag(this.#membership?.tag ?? memberTag(address))
    }
    return this.#membership?.groups
  }

  #find6(sim: Simulation, memberships: Memberships | undefined): ReadonlySet<string> | undefined {
    const at = this.#at
    if (at === 10) sim.seeIpv6Src(128)
    else sim.seeIpv6Dst(128)
    const { work } = sim
    const [a, b, c, d] = [
      word(work, at),
      word(work, at + 1),
      word(work, at + 2),
      word(work, at + 3),
    ]
    const membership = memberships?.find6(a, b, c, d)
    sim.tag(membership?.tag ?? memberTag([a, b, c, d]))
    return membership?.groups
  }
}
