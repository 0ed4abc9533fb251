"""The places of Path Exploration: 200 districts, counties and development zones, 20 with treasure.

The treasures are those of the paper (appendix A.1), in its spelling, with two exceptions. Its list
names Luolong District of Luoyang twice, leaving only 19 different places; Jianxi District of the
same city replaces the second one. Nanchang has no Jinggangshan District as far as we know; it is
kept so that the set stays the paper's. The paper does not print its 200 candidates, so the other
places are our choice of real ones, in their official spelling.
"""

_DISTRICTS: dict[str, dict[str, str]] = {
    "Anhui Province": {
        "Hefei": "Feidong County, Feixi County, Shushan, Luyang, Baohe",
        "Wuhu": "Jinghu, Yijiang",
    },
    "Beijing Municipality": {
        "": "Dongcheng, Xicheng, Chaoyang, Haidian, Fengtai, Tongzhou, Daxing, Changping",
    },
    "Chongqing Municipality": {
        "": "Yuzhong, Jiangbei, Shapingba, Jiulongpo, Nan'an, Yubei, Wanzhou",
    },
    "Fujian Province": {
        "Xiamen": "Siming, Huli, Jimei",
        "Fuzhou": "Gulou, Taijiang, Cangshan",
        "Quanzhou": "Fengze, Licheng",
    },
    "Gansu Province": {
        "Lanzhou": "Chengguan, Qilihe, Anning, Xigu",
        "Tianshui": "Qinzhou, Maiji",
    },
    "Guangdong Province": {
        "Guangzhou": "Baiyun, Tianhe, Yuexiu, Haizhu, Panyu",
        "Shenzhen": "Shenzhen High-tech Zone, Nanshan, Futian, Luohu, Bao'an",
        "Foshan": "Nanhai, Shunde",
        "Zhuhai": "Xiangzhou",
    },
    "Guangxi Zhuang Autonomous Region": {
        "Nanning": "Qingxiu, Xingning, Jiangnan",
        "Guilin": "Xiangshan, Qixing",
    },
    "Guizhou Province": {
        "Guiyang": "Nanming, Yunyan, Huaxi",
        "Zunyi": "Honghuagang, Huichuan",
    },
    "Hainan Province": {
        "Haikou": "Longhua, Meilan, Xiuying",
        "Sanya": "Jiyang, Tianya",
    },
    "Hebei Province": {
        "Shijiazhuang": "Chang'an, Qiaoxi, Yuhua",
        "Tangshan": "Lubei, Lunan",
        "Baoding": "Lianchi",
    },
    "Heilongjiang Province": {
        "Harbin": "Harbin Economic & Technological Development Zone, Songbei, Nangang, Daoli, "
        "Xiangfang",
        "Daqing": "Longfeng, Ranghulu",
    },
    "Henan Province": {
        "Luoyang": "Luolong, Jianxi, Xigong, Laocheng",
        "Zhengzhou": "Jinshui, Zhongyuan, Erqi",
        "Kaifeng": "Longting",
    },
    "Hubei Province": {
        "Wuhan": "Wuchang, Hongshan, Jianghan, Hanyang",
        "Yichang": "Xiling, Wujiagang",
    },
    "Hunan Province": {
        "Changsha": "Yuhua, Yuelu, Furong, Tianxin, Kaifu, Changsha County",
        "Xiangtan": "Yuhu, Yuetang",
    },
    "Inner Mongolia Autonomous Region": {
        "Hohhot": "Xincheng, Saihan, Huimin",
        "Baotou": "Kundulun, Qingshan",
    },
    "Jiangsu Province": {
        "Nanjing": "Xuanwu, Gulou, Qinhuai, Jianye",
        "Suzhou": "Gusu, Wuzhong, Kunshan City",
        "Lianyungang": "Lianyungang Economic & Technological Development Zone, Haizhou, Lianyun",
    },
    "Jiangxi Province": {
        "Nanchang": "Jinggangshan, Donghu, Xihu, Qingshanhu",
        "Ganzhou": "Ganzhou High-tech Industrial Development Zone, Zhanggong, Nankang",
        "Ji'an": "Jinggangshan City",
    },
    "Jilin Province": {
        "Changchun": "Nanguan, Chaoyang, Kuancheng",
        "Jilin": "Chuanying, Changyi",
    },
    "Liaoning Province": {
        "Shenyang": "Heping, Shenhe, Tiexi",
        "Dalian": "Zhongshan, Shahekou, Ganjingzi",
    },
    "Ningxia Hui Autonomous Region": {
        "Yinchuan": "Yinchuan Economic & Technological Development Zone, Xingqing, Jinfeng, Xixia",
        "Shizuishan": "Dawukou",
    },
    "Qinghai Province": {
        "Xining": "Chengdong, Chengxi, Chengbei, Chengzhong",
    },
    "Shaanxi Province": {
        "Xi'an": "Beilin, Yanta, Lianhu, Weiyang, Xincheng",
        "Xianyang": "Qindu, Weicheng",
    },
    "Shandong Province": {
        "Jinan": "Lixia, Shizhong, Licheng",
        "Qingdao": "Shinan, Shibei, Laoshan",
        "Yantai": "Zhifu",
    },
    "Shanghai Municipality": {
        "": "Huangpu, Xuhui, Changning, Jing'an, Putuo, Hongkou, Minhang, Pudong New Area",
    },
    "Shanxi Province": {
        "Taiyuan": "Xiaodian, Yingze, Wanbailin",
        "Datong": "Pingcheng, Yungang",
    },
    "Sichuan Province": {
        "Chengdu": "Jinniu, Wuhou, Qingyang, Jinjiang, Chenghua",
        "Deyang": "Deyang Economic Development Zone, Jingyang, Guanghan City",
    },
    "Tianjin Municipality": {
        "": "Tianjin Economic-Technological Development Area, Heping, Nankai, Hexi, Hebei, Hedong, "
        "Binhai New Area",
    },
    "Xinjiang Uyghur Autonomous Region": {
        "Urumqi": "Tianshan, Shuimogou, Toutunhe",
    },
    "Yunnan Province": {
        "Kunming": "Wuhua, Panlong, Guandu, Xishan",
        "Qujing": "Qilin",
    },
    "Zhejiang Province": {
        "Hangzhou": "Xihu, Shangcheng, Gongshu, Binjiang, Yuhang",
        "Ningbo": "Haishu, Yinzhou",
        "Wenzhou": "Lucheng",
    },
}
"""By province and city; a municipality has no city. A name without its kind is a District."""


def _spell(province: str, city: str, name: str) -> str:
    name = name if name.endswith((" County", " City", " Area", " Zone")) else f"{name} District"
    return " – ".join([province, f"{city} City", name] if city else [province, name])


PLACES: tuple[str, ...] = tuple(
    _spell(province, city, name)
    for province, cities in _DISTRICTS.items()
    for city, names in cities.items()
    for name in names.split(", ")
)
"""The closed world: 200 places as "Province – City – District", municipalities without a city."""

TREASURES: tuple[str, ...] = (
    "Anhui Province – Hefei City – Feidong County",
    "Heilongjiang Province – Harbin City – Harbin Economic & Technological Development Zone",
    "Tianjin Municipality – Tianjin Economic-Technological Development Area",
    "Guangdong Province – Shenzhen City – Shenzhen High-tech Zone",
    "Sichuan Province – Deyang City – Deyang Economic Development Zone",
    "Jiangsu Province – Lianyungang City – Lianyungang Economic & Technological Development Zone",
    "Heilongjiang Province – Harbin City – Songbei District",
    "Jiangxi Province – Ganzhou City – Ganzhou High-tech Industrial Development Zone",
    "Henan Province – Luoyang City – Luolong District",
    "Ningxia Hui Autonomous Region – Yinchuan City – "
    "Yinchuan Economic & Technological Development Zone",
    "Sichuan Province – Chengdu City – Jinniu District",
    "Guangdong Province – Guangzhou City – Baiyun District",
    "Jiangsu Province – Nanjing City – Xuanwu District",
    "Jiangxi Province – Nanchang City – Jinggangshan District",
    "Hunan Province – Changsha City – Yuhua District",
    "Zhejiang Province – Hangzhou City – Xihu District",
    "Hunan Province – Changsha City – Yuelu District",
    "Fujian Province – Xiamen City – Siming District",
    "Gansu Province – Lanzhou City – Chengguan District",
    "Henan Province – Luoyang City – Jianxi District",
)
"""The places with a treasure, all of them among `PLACES`."""
